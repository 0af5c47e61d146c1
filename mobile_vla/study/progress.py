"""Say how far a sweep is, from what its jobs wrote into their folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mobile_vla.number_format import duration
from mobile_vla.study.summary import read_summary
from mobile_vla.tracking.ownership import Owner, is_own, owner_of
from mobile_vla.untrusted.files import inside, open_regular, parse_row, read_json

_TAIL_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class SweepProgress:
    """How many of a sweep's jobs are where; ``seconds_left`` is None until something can be said.

    ``elsewhere`` are the processes of other calls that train jobs of this one.
    """

    done: int
    running: int
    failed: int
    stopped: int
    waiting: int
    elsewhere: tuple[Owner, ...]
    seconds_left: float | None

    @property
    def num_ended(self) -> int:
        """Jobs that will not go on in this sitting."""
        return self.done + self.failed + self.stopped

    def __str__(self) -> str:
        total = self.num_ended + self.running + self.waiting + len(self.elsewhere)
        stopped = f", {self.stopped} stopped" if self.stopped else ""
        left = f", about {duration(self.seconds_left)} left" if self.seconds_left is not None else ""
        counts = f"{self.running} running, {self.failed} failed{stopped}, {self.waiting} waiting"
        if self.elsewhere:
            pids = ", ".join(str(owner.pid or "unknown") for owner in self.elsewhere)
            counts += f", {len(self.elsewhere)} running elsewhere (process {pids})"
        return f"{self.done} of {total} done, {counts}{left}"


def read_progress(jobs: Iterable[Path], *, started: float, now: float) -> SweepProgress:
    """Read the job folders of a sweep that started at ``started`` (seconds since the epoch).

    A summary older than that is an earlier sitting's: unless its job is done, the job waits to be taken up. The time
    left assumes that the rest goes as fast as what was done in this sitting.
    """
    counts: Counter[str] = Counter()
    elsewhere = []
    done_now = to_do = 0.0
    for job in jobs:
        status = read_summary(job).get("status")
        is_of_now = status is not None and os.stat(job / "summary.json").st_mtime >= started
        if status != "done" and (owner := owner_of(job)) is not None and not is_own(owner):
            elsewhere.append(owner)
            continue
        if status != "done" and not is_of_now:
            status = "waiting"
        counts[str(status)] += 1
        share = _share_done(job) if status == "running" else float(is_of_now)
        done_now += share
        to_do += 1 - share if status in ("running", "waiting") else 0
    return SweepProgress(
        done=counts["done"],
        running=counts["running"],
        failed=counts["failed"],
        stopped=counts["stopped"],
        waiting=counts["waiting"],
        elsewhere=tuple(elsewhere),
        seconds_left=to_do * (now - started) / done_now if done_now and to_do else None,
    )


def _share_done(job: Path) -> float:
    """Return which share of its steps a running job has logged."""
    try:
        num_steps = read_json(inside(job, "manifest.json")).get("num_steps")
        with open_regular(inside(job, "metrics.jsonl")) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = [line for line in file.read().split(b"\n")[:-1] if line.startswith(b"{")]
    except FileNotFoundError:
        return 0.0
    return parse_row(lines[-1], place=str(job / "metrics.jsonl"))["step"] / num_steps if lines and num_steps else 0.0
