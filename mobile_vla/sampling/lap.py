"""Draw windows with p proportional to max((loss / threshold)^alpha, 1), without weights: loss-adjusted prioritisation.

The loss is the smoothed relative one of ``Scores``: 1 is an average window. Use it with the Huber loss
(model.head.loss=huber): windows below the threshold are drawn uniformly, those above by their loss. Source: Fujimoto et
al., An Equivalence between Loss Functions and Non-Uniform Sampling in Experience Replay (NeurIPS 2020): alpha 0.4, and
in place of the loss the absolute error of the value, with the threshold 1, where the Huber loss turns linear: a
window's many errors have no one such place. Their theorem says that any such draw equals another loss under uniform
draws: see ``loss_weighted``.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mobile_vla.sampling.contract import Look
from mobile_vla.sampling.passes import ShuffledPasses, steps_of
from mobile_vla.sampling.priorities import Priorities
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Lap:
    """Draws are independent, with replacement, after a warm-up in which every window comes once a pass."""

    def __init__(
        self,
        *,
        windows: WindowTable,
        batch_size: int,
        stream: Stream,
        alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)],
        threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)],
        warmup_passes: Annotated[float, Field(ge=0, allow_inf_nan=False)],
    ) -> None:
        self.windows = windows
        self._batch_size = batch_size
        self._stream = stream
        self._alpha = alpha
        self._warmup_steps = steps_of(warmup_passes, len(windows), batch_size=batch_size)
        self._passes = ShuffledPasses(len(windows), stream.child("warmup"))
        scale, power = np.float32(threshold), np.float32(alpha)
        self._priorities = Priorities(lambda losses: np.maximum((losses / scale) ** power, np.float32(1)))

    def draw(self, step: int, scores: Scores, look: Look) -> Draw:
        """See ``Sampler.draw``."""
        if step < self._warmup_steps:
            self._priorities.follow(scores)
            return Draw.unweighted(self._passes.take(step * self._batch_size, self._batch_size))
        return Draw.unweighted(self._priorities.draw(self._stream.at(step), self._batch_size, scores))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``."""
        if step < self._warmup_steps:
            return np.full(len(ids), 1 / len(self.windows))
        return self._priorities.probabilities(scores, ids)

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: one window, or an alpha of 0."""
        if len(self.windows) == 1:
            return "there is only one window"
        if self._alpha == 0:
            return "all windows are equally likely; drawing with replacement is all that sets it apart"
        return None
