"""Draw strata (groups of windows) by quota; within a stratum, every window is drawn once a pass over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.parts.passes import ShuffledPasses, take_from_each
from mobile_vla.sampling.parts.quotas import QuotaSchedule
from mobile_vla.streams import Stream


class StratumQueues:
    """One queue of windows for each stratum, from which every batch takes a quota.

    A batch contains B q_s windows of stratum s, rounded down or up so that the long-run share is exactly q_s.
    ``stratum`` [N] numbers the strata 0 .. S-1, all of which have windows; ``shares`` [S] sum to 1. The queue of
    ``names[s]`` is shuffled with its own stream, so its order does not depend on the other strata.
    """

    def __init__(
        self,
        stratum: NDArray[np.integer],
        *,
        names: Sequence[str],
        shares: NDArray[np.float64],
        batch_size: int,
        stream: Stream,
    ) -> None:
        counts = np.bincount(stratum)
        self._stratum = stratum
        self._quotas = QuotaSchedule(shares, batch_size=batch_size)
        self._members = np.argsort(stratum, kind="stable").astype(np.int32)  # sorted by stratum
        self._first = np.cumsum(counts) - counts
        self._queues = [
            ShuffledPasses(count, stream.child(name)) for count, name in zip(counts.tolist(), names, strict=True)
        ]
        self._probability = shares / counts

    def draw(self, step: int) -> NDArray[np.int64]:
        """Return the windows of ``step``, sorted by stratum."""
        drawn, quota = self._quotas.at(step)
        places = take_from_each(self._queues, drawn, quota)
        return self._members[np.repeat(self._first, quota) + places].astype(np.int64)

    def probabilities(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the long-run shares of ``ids``."""
        return self._probability[self._stratum[ids]]
