"""Compute the progress of a sweep from the files in its job folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mobile_vla.study.summary import read_summary
from mobile_vla.text import duration
from mobile_vla.tracking.ownership import Owner, is_own, owner_of
from mobile_vla.untrusted.files import inside, open_regular, parse_row, read_json

_TAIL_BYTES = 1 << 16
"""Only the end of a log is read, because progress is computed every second and logs can be long."""


@dataclass(frozen=True, kw_only=True)
class SweepProgress:
    """The number of a sweep's jobs in each state; ``seconds_left`` is None as long as it cannot be estimated.

    ``elsewhere`` contains the processes of other calls that train jobs of this sweep.
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
        """The number of jobs that this call of the sweep will not train any further."""
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
    """Return the progress of a sweep whose current call started at ``started`` (seconds since the epoch).

    A summary that is older was written by an earlier call: unless its job is done, the job still waits to be resumed.
    The estimated time left assumes that the remaining work is as fast as the work done by this call.
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
    """Return the share (0 to 1) of its steps that a running job has logged."""
    try:
        num_steps = read_json(inside(job, "manifest.json")).get("num_steps")
        with open_regular(inside(job, "metrics.jsonl")) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            # The first line may be cut by the seek and the last one may be half written: neither is parsed.
            lines = [line for line in file.read().split(b"\n")[:-1] if line.startswith(b"{")]
    except FileNotFoundError:
        return 0.0
    return parse_row(lines[-1], place=str(job / "metrics.jsonl"))["step"] / num_steps if lines and num_steps else 0.0
