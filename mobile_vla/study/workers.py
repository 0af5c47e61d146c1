"""Stop the worker processes of a parallel sweep cleanly on a signal, and end them when the sweep's process ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import psutil

from mobile_vla.process.interruption import Interrupted, answer_to_the_end
from mobile_vla.tracking.ownership import is_own, owner_of

_SECONDS_BETWEEN_LOOKS = 0.2

_WORKER: list[int] = []
"""The id of the parent process if this process is a worker, else empty."""


def stop_workers(jobs: Sequence[Path], number: int) -> None:
    """Stop the jobs that this process's workers train in the folders ``jobs``, then raise ``Interrupted``.

    It waits until no worker owns a run folder any more, so that every job has recorded that it was stopped.
    """
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
            # Only loky's workers train jobs; joblib also starts a resource tracker, which must not be stopped.
            if any("popen_loky" in argument for argument in child.cmdline()):
                child.send_signal(signal.SIGTERM)
        except psutil.NoSuchProcess:
            continue


def follow(parent: int) -> None:
    """Make this process a worker of ``parent`` until it ends; a second call does nothing.

    On SIGTERM, or if ``parent`` has ended, the current job stops as a run does on SIGTERM, and no other job starts.
    """
    if is_worker():
        return
    _WORKER.append(parent)
    answer_to_the_end(lambda number, frame: rest(), is_silent=True)
    # Workers start with signals blocked (see QuietLokyBackend). SIGINT stays blocked: the parent receives Ctrl-C.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=_watch_parent, daemon=True).start()


def is_worker() -> bool:
    """Return whether this process is a worker of a sweep."""
    return bool(_WORKER)


def rest() -> NoReturn:
    """Wait until the parent process ends this worker, because joblib raises an error if a worker ends by itself."""
    while _has_parent():
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(128 + signal.SIGTERM)


def _watch_parent() -> None:
    while _has_parent():
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)


def _has_parent() -> bool:
    return os.getppid() == _WORKER[0]
