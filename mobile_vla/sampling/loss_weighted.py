"""Draw uniformly, p = 1/N, and weigh each loss by N p_base: another sampler's preferences as a loss, a control.

Drawing in proportion to p_base and weighing uniform draws by N p_base have the same expected gradient (Fujimoto et al.
2020), so what a sampler gains over this is due to the order and the noise of its batches, not to what it prefers. Loss
weights that the base itself would give are left out: a base that undoes its preferences needs no control.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.contract import Look, SamplerFactory
from mobile_vla.sampling.passes import ShuffledPasses
from mobile_vla.sampling.scores import Scores
from mobile_vla.sampling.sequential import Sequential
from mobile_vla.sampling.shuffled import reason_through
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class LossWeighted:
    """Every window comes once a pass, in shuffled order, as in ``shuffled``."""

    def __init__(self, *, windows: WindowTable, batch_size: int, stream: Stream, base: SamplerFactory) -> None:
        self.windows = windows
        self._batch_size = batch_size
        self._base = base(windows=windows, batch_size=batch_size, stream=stream.child("base"))
        self._passes = ShuffledPasses(len(windows), stream)

    def draw(self, step: int, scores: Scores, look: Look) -> Draw:
        """See ``Sampler.draw``."""
        ids = self._passes.take(step * self._batch_size, self._batch_size)
        weights = len(self.windows) * self._base.probabilities(step, scores, ids)
        return Draw(ids=ids, weights=weights.astype(np.float32))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: uniform."""
        return np.full(len(ids), 1 / len(self.windows))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: the base's, or that its order is all it has, as equal weights are none."""
        if isinstance(self._base, Sequential):
            return "sequential prefers no window, and its order does not show in the loss"
        return reason_through(self._base)
