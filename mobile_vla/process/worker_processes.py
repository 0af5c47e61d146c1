"""Worker processes that leave signals and messages to the process that started them, and that end with it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from joblib import register_parallel_backend
from joblib._parallel_backends import LokyBackend

from mobile_vla.process.interruption import SIGNALS

_SECONDS_BETWEEN_LOOKS = 0.5
_FOLLOWED: set[int] = set()


class QuietLokyBackend(LokyBackend):
    """A joblib backend whose workers do not receive signals from the terminal; their parent process handles them.

    The signals are blocked while a worker is started, and it inherits that. A handler in the worker could be installed
    only after its imports, some seconds later; until then Ctrl-C would print a traceback in every worker.
    """

    def configure(self, *args: Any, **kwargs: Any) -> int:
        """Create the pool as joblib does, with blocked signals."""
        with _blocked():
            return super().configure(*args, **kwargs)

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Submit a task as joblib does, with blocked signals, because this may start workers."""
        with _blocked():
            return super().submit(func, callback)


def use_quiet_workers() -> None:
    """Make joblib use ``QuietLokyBackend`` for the workers of this process."""
    register_parallel_backend("loky", QuietLokyBackend)
    # A process that is ended at once leaves semaphores behind. joblib's resource tracker frees them; its warning would
    # only confuse the user. It is a process of its own, which reads the filter from the environment.
    ignored = "ignore:resource_tracker:UserWarning"
    given = os.environ.get("PYTHONWARNINGS", "")
    if ignored not in given:
        os.environ["PYTHONWARNINGS"] = f"{given},{ignored}".lstrip(",")


@contextmanager
def _blocked() -> Iterator[None]:
    resource_tracker.ensure_running()  # before blocking: starting the tracker unblocks SIGINT and SIGTERM again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent: int) -> None:
    """Make this worker process end when its parent process ``parent`` ends.

    In ``parent`` itself, and in a second call, it does nothing. Without this, a killed parent would leave its workers.
    """
    if os.getpid() == parent or parent in _FOLLOWED:
        return
    _FOLLOWED.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
