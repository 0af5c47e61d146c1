"""What a policy server counts: its robots, its requests, and how long they took."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from mobile_vla.serving.messages import NUM_LATENCIES, summarise_ms


class Figures:
    """Thread-safe counts of robots and requests, and the newest latencies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_robots = self._num_answered = self._num_refused = 0
        self._latencies_ms: deque[float] = deque(maxlen=NUM_LATENCIES)

    @property
    def num_robots(self) -> int:
        return self._num_robots

    def robot_came(self) -> None:
        with self._lock:
            self._num_robots += 1

    def robot_went(self) -> None:
        with self._lock:
            self._num_robots -= 1

    def answered(self, *, latency_ms: float) -> None:
        with self._lock:
            self._num_answered += 1
            self._latencies_ms.append(latency_ms)

    def refused(self) -> None:
        with self._lock:
            self._num_refused += 1

    def as_dict(self) -> dict[str, Any]:
        with self._lock:
            return {
                "robots": self._num_robots,
                "requests": self._num_answered + self._num_refused,
                "errors": self._num_refused,
                "latency_ms": summarise_ms(self._latencies_ms),
            }
