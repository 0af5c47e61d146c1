"""Draw every window once a pass, in time order, episode after episode: p = 1/N, the baseline of the training report.

Batches are near-duplicates: adjacent windows share all frames but one. Source: the report's data set class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.contract import Look
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Sequential:
    """Windows 0, 1, 2, ..., and from the start again. The stream is not used: the order is fixed."""

    def __init__(self, *, windows: WindowTable, batch_size: int, stream: Stream) -> None:
        self.windows = windows
        self._batch_size = batch_size

    def draw(self, step: int, scores: Scores, look: Look) -> Draw:
        """See ``Sampler.draw``; scores are not looked at."""
        first = step * self._batch_size
        return Draw.unweighted(np.arange(first, first + self._batch_size) % len(self.windows))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: uniform."""
        return np.full(len(ids), 1 / len(self.windows))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: the order shows unless every batch holds whole passes."""
        if self._batch_size % len(self.windows) == 0:
            return f"every batch of {self._batch_size} holds each of the {len(self.windows)} windows equally often"
        return None
