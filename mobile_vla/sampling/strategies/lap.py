"""Draw windows with p proportional to max((loss / threshold)^alpha, 1), without weights: loss-adjusted prioritisation.

The loss is the smoothed relative loss of ``Scores``: 1 is an average window. Windows below the threshold are drawn
equally often, those above according to their loss. Use it with the Huber loss (model.head.loss=huber).

Source: Fujimoto et al., An Equivalence between Loss Functions and Non-Uniform Sampling in Experience Replay (NeurIPS
2020), with alpha 0.4. The paper uses the absolute value error instead of the loss, and the threshold 1, at which the
Huber loss becomes linear. A window has many errors and therefore no such single point. Their theorem says that
non-uniform draws are equivalent to another loss under uniform draws: see ``loss_weighted``.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mobile_vla.sampling.contract import Difference
from mobile_vla.sampling.parts.passes import ShuffledPasses, steps_of
from mobile_vla.sampling.parts.priorities import Priorities
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Lap:
    """The sampler ``lap``; its draws are independent, with replacement, after a warm-up of shuffled passes."""

    differs_in: Difference | None = "preference"

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

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``."""
        if step < self._warmup_steps:
            # One batch a step is cheaper than the whole table at the end of the warm-up.
            self._priorities.follow(scores)
            return Draw.unweighted(self._passes.take(step * self._batch_size, self._batch_size))
        return Draw.unweighted(self._priorities.draw(self._stream.at(step), self._batch_size, scores))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``."""
        if step < self._warmup_steps:
            return np.full(len(ids), 1 / len(self.windows))
        return self._priorities.probabilities(scores, ids)

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: one window, or alpha is 0."""
        if len(self.windows) == 1:
            return "there is only one window"
        if self._alpha == 0:
            return "all windows are equally likely; drawing with replacement is all that sets it apart"
        return None
