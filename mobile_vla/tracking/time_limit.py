"""Limit how long several steps may take together, and end them all from outside."""

from __future__ import annotations

import threading
import time


class TimeLimit:
    """``seconds`` from now on, less where ``stop`` is set before."""

    def __init__(self, seconds: float, *, stop: threading.Event | None = None) -> None:
        self.seconds = seconds
        self._stop = stop or threading.Event()
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds that are left, 0 where it is over."""
        return 0.0 if self._stop.is_set() else max(self._end - time.monotonic(), 0.0)

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return self.left_s == 0

    @property
    def reason(self) -> str:
        """Why what did not finish was ended, for people."""
        return "interrupted" if self._stop.is_set() else f"no answer within {self.seconds:g} s"

    def at_most(self, seconds: float) -> TimeLimit:
        """Return the limit of a step that may take ``seconds``, and no more than is left."""
        return TimeLimit(min(seconds, self.left_s), stop=self._stop)
