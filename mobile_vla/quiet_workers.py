"""Let worker processes leave signals, and the last word, to the process that started them, and end with it."""

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

from mobile_vla.interruption import SIGNALS

_SECONDS_BETWEEN_LOOKS = 0.5
_FOLLOWED: set[int] = set()


class QuietLokyBackend(LokyBackend):
    """Start workers to which a signal from the terminal does not come: the process that started them decides.

    They inherit the blocked signals. A handler of their own would come seconds later, after their imports, and until
    then Ctrl-C would print a traceback in each of them.
    """

    def configure(self, *args: Any, **kwargs: Any) -> int:
        """Build the pool as joblib does."""
        with _blocked():
            return super().configure(*args, **kwargs)

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Hand on a task, for which workers may be started."""
        with _blocked():
            return super().submit(func, callback)


def use_quiet_workers() -> None:
    """Let joblib start the workers of this process by ``QuietLokyBackend``."""
    register_parallel_backend("loky", QuietLokyBackend)
    # Ended at once, a process leaves semaphores to joblib's tracker, which frees them and should not speak of it.
    ignored = "ignore:resource_tracker:UserWarning"
    given = os.environ.get("PYTHONWARNINGS", "")
    if ignored not in given:
        os.environ["PYTHONWARNINGS"] = f"{given},{ignored}".lstrip(",")


@contextmanager
def _blocked() -> Iterator[None]:
    resource_tracker.ensure_running()  # where it has to start one, Python lets the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent: int) -> None:
    """End this process, a worker of ``parent``, where that is gone; in ``parent`` itself, or again, do nothing."""
    if os.getpid() == parent or parent in _FOLLOWED:
        return
    _FOLLOWED.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
