"""Kill runs and sweeps at random moments, go on with them, and hold their rows against runs that were never killed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from killed_runs import kill_and_resume, kill_and_resume_sweep
from promises import Facts, Outcome
from tiny_runs import Ran, choose_sampler, options_of, run_in, tiny_overrides, write_tiny_episodes

SAMPLERS = options_of("sampler")
_BUILT_ON_OTHERS = {
    "mixture": (),
    "permuted_scores": ("sampler@sampler.base=hard_negative",),
    "loss_weighted": ("sampler@sampler.base=hard_negative",),
}
_SETTINGS = ("trainer.steps=60", "trainer.eval_every=10", "trainer.log_every=1", "evaluation.shortcuts=false")
_KILLS_OF_A_SWEEP = 2


def trial(seed: int, number: int, folder: Path, batch: int) -> Outcome:
    """Kill a plain run of the sampler ``number`` and a sweep of two seeds of it, ``batch`` times in all."""
    sampler = SAMPLERS[number]
    tiny = tiny_overrides(write_tiny_episodes(folder / "episodes"), folder / "cache")
    chosen = (*tiny, *_SETTINGS, *choose_sampler(sampler, tiny), *_BUILT_ON_OTHERS.get(sampler, ()))
    whole = {name: run_in(folder / f"whole-{name}", *chosen, f"seed={name}") for name in (0, 1)}
    broken = [f"{sampler}: {ran.message}" for ran in whole.values() if ran.exit_code]
    if broken:
        return Outcome(num_trials=0, facts={}, broken=broken)
    ran, kills = kill_and_resume(
        folder / "run", chosen, seed=seed, num_kills=batch - _KILLS_OF_A_SWEEP, num_rows=len(whole[0].rows)
    )
    if ran.exit_code or ran.timeless_rows != whole[0].timeless_rows:
        broken.append(f"{sampler}, plain: exit code {ran.exit_code}, or other rows after {kills}")
    swept, num_rows = (*chosen, "seed=0,1"), sum(len(each.rows) for each in whole.values())
    exit_code, of_sweep = kill_and_resume_sweep(
        folder / "sweep", swept, seed=seed + 1, num_kills=_KILLS_OF_A_SWEEP, num_rows=num_rows
    )
    for name, each in whole.items():
        jobs = list((folder / "sweep").glob(f"*-s{name}-*"))
        rows = [Ran(folder=job, exit_code=0, message="").timeless_rows for job in jobs]
        if exit_code or rows != [each.timeless_rows]:
            broken.append(f"{sampler}, swept, seed {name}: exit code {exit_code}, or other rows after {of_sweep}")
    numbers = [kill.number for kill in (*kills, *of_sweep)]
    facts = {f"signal {number}": float(numbers.count(number)) for number in set(numbers)}
    return Outcome(num_trials=len(numbers), facts=facts | {"unequal": float(len(broken))}, broken=broken)


def figure(facts: Sequence[Facts]) -> str:
    """Return how many went on otherwise, and what killed them."""
    names = {9: "SIGKILL", 15: "SIGTERM", 2: "SIGINT"}
    counts = {name: sum(found.get(f"signal {number}", 0) for found in facts) for number, name in names.items()}
    killed = ", ".join(f"{count:.0f} by {name}" for name, count in counts.items())
    unequal = sum(found.get("unequal", 1) for found in facts)
    return f"{unequal:.0f} of {2 * len(facts)} runs and sweeps of {len(facts)} samplers with other rows; {killed}"
