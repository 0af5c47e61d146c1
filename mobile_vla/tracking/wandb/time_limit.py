"""A time limit for several steps together, which another thread can end early."""

from __future__ import annotations

import threading
import time


class TimeLimit:
    """A limit of ``seconds`` from now on; it is over at once if ``stop`` is set."""

    def __init__(self, seconds: float, *, stop: threading.Event | None = None) -> None:
        self.seconds = seconds
        self._stop = stop or threading.Event()
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds that are left; 0 if the limit is over."""
        return 0.0 if self._stop.is_set() else max(self._end - time.monotonic(), 0.0)

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return self.left_s == 0

    @property
    def reason(self) -> str:
        """The reason why an unfinished step was ended, as a text for users."""
        return "interrupted" if self._stop.is_set() else f"no answer within {self.seconds:g} s"

    def at_most(self, seconds: float) -> TimeLimit:
        """Return the limit for one step: ``seconds``, but not more than is left."""
        return TimeLimit(min(seconds, self.left_s), stop=self._stop)
