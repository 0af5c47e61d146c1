"""Draw windows uniformly, p = 1/N: a new permutation of all windows each pass, or independent draws with replacement.

Source: common practice (a shuffling data loader). With ``sequential``, it is a baseline for all other samplers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import StrictBool

from mobile_vla.sampling.contract import Difference
from mobile_vla.sampling.parts.passes import ShuffledPasses
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Shuffled:
    """The sampler ``shuffled``.

    Without ``replacement``, every window is drawn once a pass; a batch across the end of a pass may repeat a window.
    """

    differs_in: Difference | None = None

    def __init__(self, *, windows: WindowTable, batch_size: int, stream: Stream, replacement: StrictBool) -> None:
        self.windows = windows
        self._batch_size = batch_size
        self._stream = stream
        self._replacement = replacement
        self._passes = ShuffledPasses(len(windows), stream)

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``; scores are not used."""
        if self._replacement:
            return Draw.unweighted(self._stream.at(step).integers(0, len(self.windows), self._batch_size))
        return Draw.unweighted(self._passes.take(step * self._batch_size, self._batch_size))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: uniform."""
        return np.full(len(ids), 1 / len(self.windows))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: always None, because the other samplers are compared with this one."""
        return None
