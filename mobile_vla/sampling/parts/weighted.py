"""Draw windows with fixed probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.contract import Difference
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream

_ROUNDING = 1e-9
"""Relative differences of the weights below this count as rounding errors."""


class FixedWeights:
    """Independent draws in proportion to ``weights`` [N] (0 or more, not all 0), by inverse transform sampling."""

    def __init__(self, weights: NDArray[np.floating]) -> None:
        total = weights.sum(dtype=np.float64)
        # Divided after the cumulative sum, so that the last value is 1 up to one rounding; ``draw`` clips the rest.
        self._cumulative = np.cumsum(weights, dtype=np.float64) / total
        self._last = int(np.flatnonzero(weights)[-1])
        self.is_uniform = bool(np.ptp(weights) <= _ROUNDING * weights.max())
        """True if all windows are equally likely."""

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Return ``count`` windows, drawn independently."""
        found = np.searchsorted(self._cumulative, random.random(count), side="right")
        return np.minimum(found, self._last)

    def probabilities(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probabilities of ``ids``."""
        return self._cumulative[ids] - np.where(ids > 0, self._cumulative[ids - 1], 0)


class WeightedSampler:
    """A sampler with independent draws in proportion to ``weights`` [N], which never change; no loss weights."""

    differs_in: Difference | None = "preference"

    def __init__(self, *, windows: WindowTable, batch_size: int, stream: Stream, weights: NDArray[np.floating]) -> None:
        self.windows = windows
        self._batch_size = batch_size
        self._stream = stream
        self._draws = FixedWeights(weights)

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``; the scores of this run are not used."""
        return Draw.unweighted(self._draws.draw(self._stream.at(step), self._batch_size))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``."""
        return self._draws.probabilities(ids)

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: equal weights."""
        if self._draws.is_uniform:
            return "all windows are equally likely; drawing with replacement is all that sets it apart"
        return None
