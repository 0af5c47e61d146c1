"""Draw windows in proportion to the norm g of their loss gradient among M candidates: P = g / sum, weight 1 / (M P).

The M candidates are ``candidates_per_draw`` times the batch size, drawn uniformly. g is the norm of the gradient with
respect to the output of the head's last layer, which is an upper bound of the norm of the whole gradient up to a
constant. The expected gradient equals that of uniform draws. tau = sqrt(M sum P^2) is the factor by which these draws
reduce the standard error of the gradient. If tau is not above ``min_tau``, the batch is the first of the candidates,
without weights; sampler/weight_effective stays 1 as long as this is so. With ``min_tau`` = 1 the norms always decide.

Source: Katharopoulos and Fleuret, Not All Samples Are Created Equal (ICML 2018). They use M = 3 batches and the
threshold 2, above which the extra forward passes pay off. They predict tau from a running mean over steps and skip the
measurement when it is low; here the candidates are measured at every step.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat

from mobile_vla.sampling.contract import Difference, ScoreWindows
from mobile_vla.sampling.parts.pools import expected_losses, random_pool
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class GradnormIs:
    """The sampler ``gradnorm_is``; draws from the candidates are independent, with replacement."""

    differs_in: Difference | None = "preference"

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

    def draw(self, step: int, scores: Scores, score_windows: ScoreWindows) -> Draw:
        """See ``Sampler.draw``."""
        random = self._stream.at(step)
        candidates = random_pool(random, len(self.windows), self._num_candidates)
        norms = score_windows(candidates, "gradient_norm").astype(np.float64)
        if not norms.any():  # every candidate is fitted exactly: draw uniformly instead of dividing by 0
            norms = np.ones(len(norms))
        p = norms / norms.sum()
        if _tau(p) <= self._min_tau:
            # ``resize`` repeats the candidates where the whole table is smaller than a batch.
            return Draw.unweighted(np.resize(candidates, self._batch_size))
        place = random.choice(len(candidates), self._batch_size, p=p)
        return Draw(ids=candidates[place], weights=(1 / (len(p) * p[place])).astype(np.float32))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: for many candidates and tau above ``min_tau``; losses replace the norms."""
        pool = random_pool(self._stream.at(step), len(self.windows))
        mean = expected_losses(scores, pool, pool=pool).mean()
        if mean == 0:
            return np.full(len(ids), 1 / len(self.windows))
        return expected_losses(scores, ids, pool=pool) / (mean * len(self.windows))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: with one window there is no choice."""
        return "there is only one window" if len(self.windows) == 1 else None


def _tau(p: NDArray[np.float64]) -> float:
    """Return the largest factor by which draws with ``p`` can reduce the gradient's standard error."""
    return float(np.sqrt(len(p) * np.square(p).sum()))
