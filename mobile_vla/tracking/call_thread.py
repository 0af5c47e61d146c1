"""Make calls that may hang in a thread of their own, and end the service process that they hang on."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

_KILLED_S = 2.0
"""How long wandb may take to notice that its service was killed: it measured 0.1 s."""


class CallThread:
    """Make calls one after the other; whoever asks for one waits for it only as long as it likes.

    The thread ends with the process: a call that hangs holds up nothing.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Future, Callable[[], object]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def num_waiting(self) -> int:
        """How many calls have not begun."""
        return self._calls.qsize()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Make ``call`` after those before it."""
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future

    def call(self, call: Callable[[], T], *, timeout_s: float) -> T:
        """Return what ``call`` returns, or raise what it raises; TimeoutError after ``timeout_s`` seconds."""
        return self.submit(call).result(timeout=timeout_s)

    def end(self) -> None:
        """Let the thread end after the calls that it has."""
        self._calls.put(None)

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            try:
                future.set_result(call())
            except BaseException as error:  # it belongs to whoever waits for the call
                future.set_exception(error)


def end_service(*, timeout_s: float) -> None:
    """End this process's use of wandb, so that the next start is a fresh one; a service that does not is killed.

    A service process that is gone, or hangs, cannot be told goodbye, in whatever way wandb notices.
    """
    import wandb
    from wandb.sdk.lib import module

    calls = CallThread("wandb teardown")
    goodbye = calls.submit(wandb.teardown)
    calls.end()
    # Of a service that was killed, wandb makes the end of this process, with its exit code.
    with contextlib.suppress(Exception, SystemExit):
        goodbye.result(timeout=max(timeout_s, 0))
    if not goodbye.done():
        kill_service()
        with contextlib.suppress(Exception, SystemExit):
            goodbye.result(timeout=_KILLED_S)
    module.unset_globals()  # as long as it has a run, it lets nobody log in, and one that is lost it never lets go


def kill_service() -> None:
    """Kill wandb's service process, if it is one of this process: then no call of wandb's hangs on it."""
    import psutil

    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.name().startswith("wandb-core"):
                child.kill()
