"""Damage the checkpoints of a run, then use it in each way there is."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

from mutated_checkpoints import USES, Pristine, Trial
from promises import Facts, Outcome
from tiny_runs import compose_config, run_in, tiny_overrides, write_tiny_episodes

from mobile_vla.run.build import build_dataset


def trial(seed: int, number: int, folder: Path, batch: int) -> Outcome:
    """Damage ``batch`` copies of a run and use each: a whole checkpoint is used, or none, in words."""
    tiny = (
        *tiny_overrides(write_tiny_episodes(folder / "episodes"), folder / "cache"),
        *("trainer.keep=3", "evaluation.shortcuts=false"),
    )
    pristine = Pristine(ran=run_in(folder / "run", *tiny), data=build_dataset(compose_config(tiny)).open())
    uses, broken, num_used = list(USES), [], 0
    for index in range(batch):
        made = (1000 + seed) * 100_000 + number * batch + index
        use = uses[made % len(uses)]
        try:
            num_used += Trial.make(pristine, made, folder / f"copy-{index}").check(use)
        except Exception:  # whatever comes out is a broken promise, to be listed with the others
            broken.append(f"{made} {use}: {traceback.format_exc(limit=-3)}")
    facts = {"used": float(num_used), "refused": float(batch - num_used - len(broken)), "broken": float(len(broken))}
    return Outcome(num_trials=batch, facts=facts, broken=broken)


def figure(facts: Sequence[Facts]) -> str:
    """Return how many damaged ones were used, and what became of the others."""
    used, refused, broken = (sum(found.get(name, 0) for found in facts) for name in ("used", "refused", "broken"))
    return f"{broken:.0f} used damaged or raw errors; {used:.0f} took a whole one, {refused:.0f} refused in words"
