"""Draw windows in proportion to the norm g of their loss gradient among M candidates: P = g / sum, weight 1 / (M P).

M is ``candidates_per_draw`` batches, drawn uniformly; g is the norm of the gradient with respect to what the head's
last layer puts out, an upper bound of the whole gradient's up to a constant. The expected gradient is that of uniform
draws. Where tau = sqrt(M sum P^2), by which it divides the gradient's standard error, is not above ``min_tau``, the
batch is the first of the candidates, unweighted; sampler/weight_effective stays 1 as long as that is so. Source:
Katharopoulos and Fleuret, Not All Samples Are Created Equal (ICML 2018): M = 3 batches, and a threshold of 2, above
which it pays for its extra forward passes; they ask for tau beforehand, from a running mean over steps, and save the
look where it is low. With 1 it always draws by the norm.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat

from mobile_vla.sampling.contract import Look
from mobile_vla.sampling.pools import expected_losses, random_pool
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class GradnormIs:
    """Draws from the candidates are independent, with replacement."""

    def __init__(
        self,
        *,
        windows: WindowTable,
        batch_size: int,
        stream: Stream,
        candidates_per_draw: Annotated[int, Field(ge=1)],
        min_tau: NonNegativeFloat,
    ) -> None:
        self.windows = windows
        self._batch_size = batch_size
        self._stream = stream
        self._num_candidates = candidates_per_draw * batch_size
        self._min_tau = min_tau

    def draw(self, step: int, scores: Scores, look: Look) -> Draw:
        """See ``Sampler.draw``."""
        random = self._stream.at(step)
        candidates = random_pool(random, len(self.windows), self._num_candidates)
        norms = look(candidates, "gradient_norm").astype(np.float64)
        if not norms.any():
            norms = np.ones(len(norms))
        p = norms / norms.sum()
        if _tau(p) <= self._min_tau:
            return Draw.unweighted(np.resize(candidates, self._batch_size))
        place = random.choice(len(candidates), self._batch_size, p=p)
        return Draw(ids=candidates[place], weights=(1 / (len(p) * p[place])).astype(np.float32))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``, as of many candidates and above ``min_tau``; losses stand for the norms."""
        pool = random_pool(self._stream.at(step), len(self.windows))
        mean = expected_losses(scores, pool, pool=pool).mean()
        if mean == 0:
            return np.full(len(ids), 1 / len(self.windows))
        return expected_losses(scores, ids, pool=pool) / (mean * len(self.windows))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: one window leaves nothing to choose."""
        return "there is only one window" if len(self.windows) == 1 else None


def _tau(p: NDArray[np.float64]) -> float:
    """Return by which factor drawing with ``p`` shrinks the gradient's standard error at most."""
    return float(np.sqrt(len(p) * np.square(p).sum()))
