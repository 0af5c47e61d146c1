"""Draw what another sampler draws, but with every window's place taken by another, fixed one: a placebo.

p(i) = p_base(j), j being the window whose place i takes by a random permutation that the seed fixes. So draws
are as unequal as the base's, on the wrong windows (a score is renewed when its own window is drawn, so its age is that
of another): what is left of the base's effect is not due to which windows it prefers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.contract import Look, SamplerFactory
from mobile_vla.sampling.passes import Permutation
from mobile_vla.sampling.scores import Scores
from mobile_vla.sampling.shuffled import reason_through
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class PermutedScores:
    """Whole windows change places: scenarios, phases and episodes are not balanced any more if the base does that."""

    def __init__(self, *, windows: WindowTable, batch_size: int, stream: Stream, base: SamplerFactory) -> None:
        self.windows = windows
        self._base = base(windows=windows, batch_size=batch_size, stream=stream.child("base"))
        self._permutation = Permutation.of(len(windows), stream.at(0))

    def draw(self, step: int, scores: Scores, look: Look) -> Draw:
        """See ``Sampler.draw``; the base looks at the windows it would have drawn."""
        draw = self._base.draw(step, scores, look)
        return Draw(ids=self._permutation(draw.ids), weights=draw.weights)

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``."""
        return self._base.probabilities(step, scores, self._permutation.places_of(ids))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: the base's."""
        return reason_through(self._base)
