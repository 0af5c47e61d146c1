"""Run job after job in one process, as the basic launcher does, and see whether anything grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import psutil
from promises import Facts, Outcome
from tiny_runs import SAMPLERS, run_in, tiny_overrides, write_tiny_episodes

_WARM_UP = 20
"""Jobs after which everything that is loaded once has been loaded."""

_MOST_GROWTH = 0.05
"""Of the memory after the warm-up: allocators keep some, a leak of a job's tensors is more."""


def trial(seed: int, number: int, folder: Path, batch: int) -> Outcome:
    """Run ``batch`` jobs, W&B offline; compare memory, open files and threads after the warm-up and at the end."""
    os.environ["WANDB_MODE"] = "offline"
    tiny = tiny_overrides(write_tiny_episodes(folder / "episodes"), folder / "cache")
    seen, broken, process = [], [], psutil.Process()
    for job in range(batch):
        options = [f"sampler={SAMPLERS[job % len(SAMPLERS)]}", f"seed={seed + job}", "logger=wandb"]
        ran = run_in(folder / f"run-{job}", *tiny, *options)
        if ran.exit_code:
            broken.append(f"job {job}: {ran.message}")
        seen.append((process.memory_info().rss, process.num_fds(), process.num_threads()))
    warm = min(_WARM_UP, batch // 2)
    before, after = seen[warm - 1], seen[-1]
    if after[0] > (1 + _MOST_GROWTH) * before[0]:
        broken.append(f"memory grew from {before[0] / 1e6:.0f} MB after {warm} jobs to {after[0] / 1e6:.0f} MB")
    broken += [
        f"{what} grew from {then} after {warm} jobs to {now}"
        for what, then, now in zip(("open files", "threads"), before[1:], after[1:], strict=True)
        if now > then
    ]
    facts = {
        "warm": warm,
        **{
            f"{name}_{when}": float(value)
            for when, values in (("before", before), ("after", after))
            for name, value in zip(("bytes", "files", "threads"), values, strict=True)
        },
    }
    return Outcome(num_trials=batch, facts=facts, broken=broken)


def figure(facts: Sequence[Facts]) -> str:
    """Return what stood after the warm-up and at the end."""
    (found,) = facts
    return (
        f"after {found['warm']:.0f} jobs and at the end: {found['bytes_before'] / 1e6:.0f} and "
        f"{found['bytes_after'] / 1e6:.0f} MB, {found['files_before']:.0f} and {found['files_after']:.0f} files, "
        f"{found['threads_before']:.0f} and {found['threads_after']:.0f} threads"
    )
