"""A thread for calls that may hang, and functions that end wandb's service process, the reason why they hang."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

_KILLED_S = 2.0
"""Time limit for wandb to notice that its service process was killed; measured: 0.1 s."""


class CallThread:
    """A thread that makes calls one after the other; the caller chooses how long to wait for each result.

    It is a daemon thread and ends with the process, so a call that hangs does not delay the end.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Future, Callable[[], object]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def num_waiting(self) -> int:
        """Number of calls that have not started."""
        return self._calls.qsize()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue ``call`` after the earlier calls and return its future result."""
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future

    def call(self, call: Callable[[], T], *, timeout_s: float) -> T:
        """Return what ``call`` returns, or raise what it raises; TimeoutError after ``timeout_s`` seconds."""
        return self.submit(call).result(timeout=timeout_s)

    def end(self) -> None:
        """Make the thread end after the calls that are queued now."""
        self._calls.put(None)

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            try:
                future.set_result(call())
            except BaseException as error:  # raised in the thread that waits for the result
                future.set_exception(error)


def end_service(*, timeout_s: float) -> None:
    """End wandb's service process, so that the next start is a fresh one; kill it if it does not end in ``timeout_s``.

    Errors of the teardown are ignored: a service process that has ended or hangs cannot be asked to end.
    """
    import wandb
    from wandb.sdk.lib import module

    calls = CallThread("wandb teardown")
    goodbye = calls.submit(wandb.teardown)
    calls.end()
    # SystemExit: if its service process was killed, wandb ends this process with the exit code of the service.
    with contextlib.suppress(Exception, SystemExit):
        goodbye.result(timeout=max(timeout_s, 0))
    if not goodbye.done():
        kill_service()
        with contextlib.suppress(Exception, SystemExit):
            goodbye.result(timeout=_KILLED_S)
    module.unset_globals()  # wandb allows no login while it has a run, and never releases a lost one by itself


def kill_service() -> None:
    """Kill wandb's service process if it is a child of this process, so that no call of wandb hangs any more."""
    import psutil

    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.name().startswith("wandb-core"):
                child.kill()
