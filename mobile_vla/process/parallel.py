"""Run independent work in several processes and show the progress."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, cast

from joblib import Parallel, delayed

from mobile_vla.process.cores import num_processes
from mobile_vla.process.progress_bar import track
from mobile_vla.process.worker_processes import end_with, use_quiet_workers

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_parallel(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, num_workers: int | None, description: str
) -> list[Result]:
    """Return ``work(job)`` for each job in order, computed by ``num_workers`` processes; 0 or 1: by this process.

    None is one process for each core.
    In a job of a parallel sweep, which runs in a worker process itself, joblib uses threads instead.
    """
    use_quiet_workers()
    pool, parent = Parallel(n_jobs=num_processes(num_workers), return_as="generator"), os.getpid()
    results = cast(Iterator[Result], pool(delayed(_followed)(parent, work, job) for job in jobs))
    return list(track(results, description=description, total=len(jobs)))


def _followed(parent: int, work: Callable[[Job], Result], job: Job) -> Result:
    end_with(parent)
    return work(job)
