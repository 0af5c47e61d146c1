"""Draw windows in proportion to their loss: P = (1 - u) p^alpha / sum + u / N, loss weights (N P)^-beta.

``by: loss`` has p = smoothed relative loss + 1e-6; ``by: rank`` has p = 1 / rank, where the highest loss has rank 1.
u is ``uniform_mix``; it bounds the weights by u^-beta. beta grows linearly from ``beta_start`` to 1 at
``beta_end_step``. With beta = 1 the expected gradient equals that of uniform draws; only its variance differs. With
``divide_by_largest``, as in the paper, the weights of a batch are divided by the largest of them, so the equality holds
only up to a factor that varies from batch to batch.

Source: prioritized experience replay (Schaul et al., ICLR 2016): alpha 0.6 and beta 0.4 by loss, 0.7 and 0.5 by rank.
The paper gives a new transition the highest priority; here a warm-up draws every window once a pass instead.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, StrictBool

from mobile_vla.sampling.contract import CHANGES_THE_SAMPLER, Difference
from mobile_vla.sampling.parts.passes import ShuffledPasses, steps_of
from mobile_vla.sampling.parts.pools import mean_by_rank, random_pool
from mobile_vla.sampling.parts.priorities import Priorities
from mobile_vla.sampling.parts.weighted import FixedWeights
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream

_EPSILON = 1e-6
_Share = Annotated[float, Field(ge=0, le=1)]


class Prioritized:
    """The samplers ``prioritized`` and ``prioritized_rank``; their draws are independent, with replacement.

    A window not seen yet has the probability 1/N. By rank, a large table is not ranked as a whole: each step ranks a
    random pool of windows, and the loss weights correct for the probabilities within that pool.
    """

    differs_in: Difference | None = "preference"

    def __init__(
        self,
        *,
        windows: WindowTable,
        batch_size: int,
        stream: Stream,
        by: Literal["loss", "rank"],
        alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)],
        beta_start: _Share,
        beta_end_step: Annotated[NonNegativeInt, CHANGES_THE_SAMPLER],
        uniform_mix: Annotated[float, Field(gt=0, le=1)],
        divide_by_largest: StrictBool,
        warmup_passes: Annotated[float, Field(ge=0, allow_inf_nan=False)],
    ) -> None:
        self.windows = windows
        self._batch_size = batch_size
        self._stream = stream
        self._by_rank = by == "rank"
        self._alpha = alpha
        self._beta_start = beta_start
        self._beta_end_step = beta_end_step
        self._uniform_mix = uniform_mix
        self._divide_by_largest = divide_by_largest
        self._warmup_steps = steps_of(warmup_passes, len(windows), batch_size=batch_size)
        self._passes = ShuffledPasses(len(windows), stream.child("warmup"))
        self._priorities = Priorities(lambda losses: (losses + np.float32(_EPSILON)) ** np.float32(alpha))

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``."""
        if step < self._warmup_steps:
            if not self._by_rank:
                # One batch a step is cheaper than the whole table at the end of the warm-up.
                self._priorities.follow(scores)
            return Draw.unweighted(self._passes.take(step * self._batch_size, self._batch_size))
        random = self._stream.at(step)
        if self._by_rank:
            pool = random_pool(random, len(self.windows))
            pool = pool[np.argsort(scores.loss[pool])]  # searchsorted is several times faster with sorted keys
            shares = self._rank_probabilities(pool, scores, pool)
            place = FixedWeights(shares).draw(random, self._batch_size)
            return self._weighted(step, pool[place], len(pool) * shares[place])
        is_uniform = random.random(self._batch_size) < self._uniform_mix
        anywhere = random.integers(0, len(self.windows), self._batch_size)
        ids = np.where(is_uniform, anywhere, self._priorities.draw(random, self._batch_size, scores))
        return self._weighted(step, ids, len(self.windows) * self.probabilities(step, scores, ids))

    def _weighted(self, step: int, ids: NDArray[np.int64], ratio: NDArray[np.float64]) -> Draw:
        """Return the draw of ``ids`` with weights, where ``ratio`` is the probability of each id divided by 1/N."""
        done = min(step / self._beta_end_step, 1) if self._beta_end_step else 1
        weights = ratio ** -(self._beta_start + (1 - self._beta_start) * done)
        if self._divide_by_largest:
            weights /= weights.max()
        return Draw(ids=ids, weights=weights.astype(np.float32))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``."""
        num_windows = len(self.windows)
        if step < self._warmup_steps:
            return np.full(len(ids), 1 / num_windows)
        if self._by_rank:
            pool = random_pool(self._stream.at(step), num_windows)
            return self._rank_probabilities(pool, scores, ids) * len(pool) / num_windows
        drawn = self._priorities.probabilities(scores, ids)
        return (1 - self._uniform_mix) * drawn + self._uniform_mix / num_windows

    def _rank_probabilities(
        self, pool: NDArray[np.int64], scores: Scores, ids: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the probability of each of ``ids`` when one window of ``pool`` is drawn.

        Windows with equal losses share the probability of their ranks, so that the order of the table has no effect.
        """
        seen = pool[scores.visits[pool] > 0]
        if len(seen) == 0:
            return np.full(len(ids), 1 / len(pool))
        mass = np.arange(1, len(seen) + 1, dtype=float) ** -self._alpha
        mass *= len(seen) / len(pool) / mass.sum()  # the rest of the probability belongs to the windows not seen yet
        ranked = mean_by_rank(mass, -scores.loss[seen], -scores.loss[ids])
        shares = np.where(scores.visits[ids] > 0, ranked, 1 / len(pool))
        return (1 - self._uniform_mix) * shares + self._uniform_mix / len(pool)

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: one window, or only the uniform part has an effect."""
        if len(self.windows) == 1:
            return "there is only one window"
        if self._alpha == 0 or self._uniform_mix == 1:
            return "all windows are equally likely; drawing with replacement is all that sets it apart"
        return None
