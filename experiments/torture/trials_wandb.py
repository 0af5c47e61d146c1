"""Let W&B's server and its service fail in every way while runs are logged, then sync once it is well again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from promises import Facts, Outcome
from wandb_faults import run_faults

_LONGEST = "longest"


def trial(seed: int, number: int, folder: Path, batch: int) -> Outcome:
    """Try each fault ``batch`` times against a loopback server; nothing in it is random."""
    lines = run_faults(folder, rounds=batch)
    facts = {text: float(figure.split()[0]) for text, _, figure in lines}
    broken = [f"{text}: {figure}" for text, _, figure in lines if _LONGEST not in text and figure != "0"]
    return Outcome(num_trials=max(trials for _, trials, _ in lines), facts=facts, broken=broken)


def figure(facts: Sequence[Facts]) -> str:
    """Return each count and the longest waits."""
    names = [name for name in facts[0] if name not in ("peak_mb", "crashes")]
    return "; ".join(f"{name} {max(found.get(name, 0) for found in facts):g}" for name in names)
