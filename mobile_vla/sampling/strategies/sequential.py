"""Draw every window once a pass, in time order, one episode after another: p = 1/N, the training report's baseline.

The windows of a batch are near-duplicates: adjacent windows share all frames but one. Source: the data set class of the
training report.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.contract import Difference
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Sequential:
    """The sampler ``sequential``: windows 0 .. N-1, repeated. The order is fixed, so ``stream`` is not used."""

    differs_in: Difference | None = "order"

    def __init__(self, *, windows: WindowTable, batch_size: int, stream: Stream) -> None:
        self.windows = windows
        self._batch_size = batch_size

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``; scores are not used."""
        first = step * self._batch_size
        return Draw.unweighted(np.arange(first, first + self._batch_size) % len(self.windows))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: uniform."""
        return np.full(len(ids), 1 / len(self.windows))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: the order has no effect only if every batch contains whole passes."""
        if self._batch_size % len(self.windows) == 0:
            return f"every batch of {self._batch_size} holds each of the {len(self.windows)} windows equally often"
        return None
