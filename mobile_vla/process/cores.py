"""The number of processes for work that is done in parallel."""

from __future__ import annotations

import os


def num_processes(num_workers: int | None) -> int:
    """Return the number of processes that ``num_workers`` asks for: None is one for each core, 0 is one."""
    if num_workers is not None:
        return max(num_workers, 1)
    # The cores that this process may use: a job of a cluster has few of its machine's. macOS does not tell.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
