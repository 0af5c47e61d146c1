"""Draw uniformly, p = 1/N, and weight each loss by N p_base: a control that turns preferences into loss weights.

Draws in proportion to p_base, and uniform draws with the loss weights N p_base, have the same expected gradient
(Fujimoto et al. 2020). So if the base sampler does better than this control, the reason is the order and the noise of
its batches and not which windows it prefers. Loss weights of the base sampler itself are ignored: a base sampler that
cancels its preferences by loss weights needs no control.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.contract import Difference, SamplerFactory, reason_through
from mobile_vla.sampling.parts.passes import ShuffledPasses
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class LossWeighted:
    """The sampler ``loss_weighted``; it draws every window once a pass in random order, as ``shuffled`` does."""

    differs_in: Difference | None = "preference"

    def __init__(self, *, windows: WindowTable, batch_size: int, stream: Stream, base: SamplerFactory) -> None:
        self.windows = windows
        self._batch_size = batch_size
        self._base = base(windows=windows, batch_size=batch_size, stream=stream.child("base"))
        self._passes = ShuffledPasses(len(windows), stream)

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``."""
        ids = self._passes.take(step * self._batch_size, self._batch_size)
        weights = len(self.windows) * self._base.probabilities(step, scores, ids)
        return Draw(ids=ids, weights=weights.astype(np.float32))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: uniform."""
        return np.full(len(ids), 1 / len(self.windows))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: that of the base sampler, or that the base sampler changes only the order.

        Such a base sampler has equal probabilities, so all loss weights would be 1.
        """
        if self._base.differs_in == "order":
            return "the sampler it is based on changes only the order, which loss weights cannot express"
        return reason_through(self._base)
