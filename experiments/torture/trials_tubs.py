"""Import mutated DonkeyCar tubs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from judged_tubs import FAULTS, run_mutated
from promises import Facts, Outcome


def trial(seed: int, number: int, folder: Path, batch: int) -> Outcome:
    """Import ``batch`` mutated tubs, each in a process of its own that is judged by how it ends."""
    first = (1000 + seed) * 100_000 + number * batch
    results = list(run_mutated(folder, range(first, first + batch)))
    verdicts = Counter(result["verdict"] for result in results)
    broken = [f"{each['seed']} {each['mutations']}: {each['verdict']}: {each['message']}" for each in results]
    facts = {verdict: float(count) for verdict, count in verdicts.items()}
    facts |= {"longest_s": max(each["cpu_s"] for each in results), "mib": max(each["mib"] for each in results)}
    return Outcome(
        num_trials=batch,
        facts=facts,
        broken=[text for text, each in zip(broken, results, strict=True) if each["verdict"] in FAULTS],
    )


def figure(facts: Sequence[Facts]) -> str:
    """Return the faults, all kinds, and the worst that was no fault."""
    total = {name: sum(found.get(name, 0) for found in facts) for name in ("refused", "imported", *FAULTS)}
    counts = ", ".join(f"{total[name]:.0f} {name}" for name in FAULTS)
    longest, most = (max(found.get(name, 0) for found in facts) for name in ("longest_s", "mib"))
    return (
        f"{counts}; {total['refused']:,.0f} refused by name, {total['imported']:,.0f} imported; longest "
        f"{longest:.1f} s of CPU, most memory {most:.0f} MiB"
    )
