"""Draw as another sampler does, but exchange the windows by a fixed random permutation: a placebo control.

p(i) = p_base(j), where the permutation, fixed by the seed, replaces window j by window i. The draws are therefore as
unequal as those of the base sampler, but they prefer the wrong windows. (The score of a window is updated when that
window is drawn, so its age depends on the preference for another window.) An effect of the base sampler that remains
here is not due to which windows it prefers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.contract import Difference, SamplerFactory, ScoreWindows, draw_windows, reason_through
from mobile_vla.sampling.parts.passes import Permutation
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class PermutedScores:
    """The sampler ``permuted_scores``.

    The permutation covers the whole table, so scenarios, phases and episodes that the base sampler balances are not
    balanced any more.
    """

    def __init__(self, *, windows: WindowTable, batch_size: int, stream: Stream, base: SamplerFactory) -> None:
        self.windows = windows
        self._base = base(windows=windows, batch_size=batch_size, stream=stream.child("base"))
        self._permutation = Permutation.of(len(windows), stream.at(0))

    @property
    def differs_in(self) -> Difference | None:
        """See ``Sampler.differs_in``: that of the base sampler."""
        return self._base.differs_in

    def draw(self, step: int, scores: Scores, score_windows: ScoreWindows) -> Draw:
        """See ``Sampler.draw``; the base sampler measures its own candidates, before the permutation."""
        draw = draw_windows(self._base, step, scores, score_windows)
        return Draw(ids=self._permutation(draw.ids), weights=draw.weights)

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``."""
        return self._base.probabilities(step, scores, self._permutation.places_of(ids))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: that of the base sampler."""
        return reason_through(self._base)
