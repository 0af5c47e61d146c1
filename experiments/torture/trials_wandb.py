"""Let W&B's server and its service fail in every way while runs are logged, then sync once it is well again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from promises import Facts, Outcome
from wandb_faults import FINISH_TIMEOUT_S, SYNC_TIMEOUT_S, run_faults

FAULTS = {
    "lost_rows": "rows lost here",
    "unsaid": "ends that do not say it",
    "wrong_there": "runs with a row missing or twice there after the last sync",
}


def trial(seed: int, number: int, folder: Path, batch: int) -> Outcome:
    """Try each fault ``batch`` times against a loopback server; nothing in it is random."""
    found = asdict(run_faults(folder, rounds=batch))
    broken = [f"{found[name]} {text}" for name, text in FAULTS.items() if found[name]]
    return Outcome(num_trials=found.pop("num_trials"), facts=found, broken=broken)


def figure(facts: Sequence[Facts]) -> str:
    """Return the faults, all kinds, and the longest waits of a run that W&B fails."""
    counts = ", ".join(f"{sum(found.get(name, 0) for found in facts):.0f} {text}" for name, text in FAULTS.items())
    row, end, sync = (max(found.get(f"longest_{name}_s", 0) for found in facts) for name in ("row", "end", "sync"))
    return (
        f"{counts}; a row took {1000 * row:.0f} ms at most, its end {end:.1f} s (limit {FINISH_TIMEOUT_S:g} s), "
        f"sync {sync:.1f} s (limit {SYNC_TIMEOUT_S:g} s)"
    )
