"""Say what a sampler is: a pure function from (window table, seed, step, scores) to the windows of one step."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Sampler(Protocol):
    """Draws ``batch_size`` windows a step. Holds no state that a second call could see; a cache is none."""

    windows: WindowTable

    def draw(self, step: int, scores: Scores) -> Draw:
        """Return the windows of ``step`` (0 or more, in any order), the same for the same step and scores."""
        ...

    def probabilities(self, scores: Scores) -> NDArray[np.float64]:
        """Return each window's long-run share of the draws [N], summing to 1, if the scores stayed as they are."""
        ...

    def no_effect_reason(self) -> str | None:
        """Say why this table leaves no way to differ from ``shuffled``; None where it can differ.

        A reason is given only where the batches of every step are distributed as those of ``shuffled``, with or without
        replacement.
        """
        ...


class SamplerFactory(Protocol):
    """A sampler whose options are set and whose data is not: what ``_partial_: true`` in a config makes."""

    def __call__(self, *, windows: WindowTable, batch_size: int, stream: Stream) -> Sampler:
        """Return the sampler for this table."""
        ...
