"""Let the worker processes of a parallel sweep stop as one process does, and end with the one that started them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import psutil

from mobile_vla.interruption import Interrupted, answer_to_the_end
from mobile_vla.tracking.ownership import is_own, owner_of

_SECONDS_BETWEEN_LOOKS = 0.2

_WORKER: list[int] = []
"""The process that this one is a worker of, where it is one."""


def stop_workers(jobs: Sequence[Path], number: int) -> None:
    """Stop what this process's workers train in the folders ``jobs``, and raise ``Interrupted`` when they have."""
    tell_workers()
    while True:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        owners = [owner for job in jobs if (owner := owner_of(job)) is not None]
        if not any(map(is_own, owners)):
            raise Interrupted(number)


def tell_workers() -> None:
    """Send SIGTERM to the workers of this process."""
    for child in psutil.Process().children():
        try:
            if any("popen_loky" in argument for argument in child.cmdline()):
                child.send_signal(signal.SIGTERM)
        except psutil.NoSuchProcess:
            continue


def follow(parent: int) -> None:
    """Make this process a worker of ``parent`` until it ends; called again it does nothing.

    At SIGTERM, or where ``parent`` is gone, the job in hand stops as a run does at SIGTERM, and no other one begins.
    """
    if is_worker():
        return
    _WORKER.append(parent)
    answer_to_the_end(lambda number, frame: rest(), is_silent=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=_watch_parent, daemon=True).start()


def is_worker() -> bool:
    """Return whether this process is a worker of a sweep."""
    return bool(_WORKER)


def rest() -> NoReturn:
    """Wait for the process that started this worker to end it: a worker that ends by itself is an error to joblib."""
    while _has_parent():
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(128 + signal.SIGTERM)


def _watch_parent() -> None:
    while _has_parent():
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)


def _has_parent() -> bool:
    return os.getppid() == _WORKER[0]
