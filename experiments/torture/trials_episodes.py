"""Read mutated episode files, pixels included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mutated_episodes import torture_episodes
from promises import Facts, Outcome


def trial(seed: int, number: int, folder: Path, batch: int) -> Outcome:
    """Read ``batch`` mutated files; a crash of this process is seen by the one that waits for it."""
    found = torture_episodes(folder, count=batch, seed=1000 + seed, first=number * batch)
    facts = {
        "longest_s": found.longest_s,
        "mib": found.peak_mib,
        "refused": float(found.refused),
        **{name: float(len(getattr(found, name))) for name in ("unnamed", "hangs", "read_outside", "silent_zeros")},
    }
    return Outcome(num_trials=found.trials, facts=facts, broken=found.faults())


def figure(facts: Sequence[Facts]) -> str:
    """Return the faults, all kinds, and the worst that was no fault."""
    total = {name: sum(found.get(name, 0) for found in facts) for name in FAULTS}
    counts = ", ".join(f"{total[name]:.0f} {text}" for name, text in FAULTS.items())
    longest, most = (max(found.get(name, 0) for found in facts) for name in ("longest_s", "mib"))
    refused = sum(found.get("refused", 0) for found in facts)
    return f"{counts}; {refused:,.0f} refused by name; longest {longest:.1f} s, most memory {most:.0f} MiB"


FAULTS = {
    "crashes": "crashes",
    "hangs": "hangs over 5 s",
    "read_outside": "reads outside",
    "unnamed": "unnamed",
    "silent_zeros": "silent zeros",
}
