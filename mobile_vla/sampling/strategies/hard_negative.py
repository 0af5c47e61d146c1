"""Replace draws of a base sampler by hard windows: p = (1 - f) p_base + f ((1 - u) p_hard + u / N).

f is ``fraction``. p_hard is uniform over the ``top_fraction`` of the windows seen so far that have the highest smoothed
loss. u (``uniform_mix``) keeps the probability of every window above 0. Hard windows of one batch that are in the same
episode start more than ``dedupe_radius`` frames apart; this corresponds to the non-maximum suppression of OHEM
(Shrivastava et al. 2016), along time instead of space. Source: the training report, option 3.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from mobile_vla.sampling.contract import Difference, SamplerFactory, ScoreWindows, draw_windows
from mobile_vla.sampling.parts.passes import steps_of
from mobile_vla.sampling.parts.pools import POOL_SIZE, RANKED_WHOLE, random_pool
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream

_HARD_PER_PICK = 4
"""Hard windows in a pool for each one that is needed, so that enough are left when near ones are skipped."""

_PositiveShare = Annotated[float, Field(gt=0, le=1)]


class HardNegative:
    """The sampler ``hard_negative``; it starts to mine after as many draws as ``warmup_passes`` passes have.

    A base window that is replaced is not drawn until a later pass. The base window stays where no hard window is left:
    none was seen yet, or all others are too near to those already taken. For a large table, each step searches a random
    pool for hard windows.
    """

    differs_in: Difference | None = "preference"

    def __init__(
        self,
        *,
        windows: WindowTable,
        batch_size: int,
        stream: Stream,
        base: SamplerFactory,
        fraction: _PositiveShare,
        top_fraction: _PositiveShare,
        uniform_mix: Annotated[float, Field(ge=0, lt=1)],
        warmup_passes: Annotated[float, Field(ge=0, allow_inf_nan=False)],
        dedupe_radius: NonNegativeInt,
    ) -> None:
        self.windows = windows
        self._base = base(windows=windows, batch_size=batch_size, stream=stream.child("base"))
        self._batch_size = batch_size
        self._stream = stream
        self._fraction = fraction
        self._top_fraction = top_fraction
        self._uniform_mix = uniform_mix
        self._warmup_steps = steps_of(warmup_passes, len(windows), batch_size=batch_size)
        self._dedupe_radius = dedupe_radius
        ranked = POOL_SIZE if len(windows) > RANKED_WHOLE else len(windows)
        self._pool_size = max(ranked, int(np.ceil(_HARD_PER_PICK * fraction * batch_size / top_fraction)))

    def draw(self, step: int, scores: Scores, score_windows: ScoreWindows) -> Draw:
        """See ``Sampler.draw``; hard windows come from a random pool, or from the whole table if it is not larger."""
        base = draw_windows(self._base, step, scores, score_windows)
        if step < self._warmup_steps:
            return base
        random = self._stream.at(step)
        is_mined = random.random(self._batch_size) < self._fraction
        is_uniform = random.random(self._batch_size) < self._uniform_mix
        anywhere = random.integers(0, len(self.windows), self._batch_size)
        ids = np.where(is_mined & is_uniform, anywhere, base.ids)
        slots = np.flatnonzero(is_mined & ~is_uniform)
        hard = self._hard_windows(random_pool(random, len(self.windows), self._pool_size), scores)
        hard = self._spread_out(random.permutation(hard), count=len(slots))
        ids[slots[: len(hard)]] = hard
        # A replaced window gets the weight 1: the loss weights of the base sampler belong to its own windows.
        weights = np.where(ids == base.ids, base.weights, np.float32(1))
        return Draw(ids=ids, weights=weights)

    def _hard_windows(self, pool: NDArray[np.int64], scores: Scores) -> NDArray[np.int64]:
        """Return the seen windows of ``pool`` with the highest loss; of equal losses, those that come first in it."""
        seen = pool[scores.visits[pool] > 0]
        if len(seen) == 0:
            return seen
        loss, threshold, count = scores.loss[seen], *self._threshold(scores.loss[seen])
        above, level = seen[loss > threshold], seen[loss == threshold]
        return np.concatenate([above, level[: count - len(above)]])

    def _threshold(self, losses: NDArray[np.float32]) -> tuple[np.float32, int]:
        """Return the lowest loss among the hard ``losses``, and the number of hard windows."""
        count = max(round(self._top_fraction * len(losses)), 1)
        # A partition is faster than a sort. The callers break ties, so the result does not depend on its internals.
        return np.partition(losses, len(losses) - count)[len(losses) - count], count

    def _spread_out(self, candidates: NDArray[np.int64], *, count: int) -> NDArray[np.int64]:
        """Return the first ``count`` candidates that are far enough from those already taken in the same episode."""
        taken: list[int] = []
        starts_taken: dict[int, list[int]] = defaultdict(list)
        episodes, starts = self.windows.episode[candidates].tolist(), self.windows.start[candidates].tolist()
        for window, episode, start in zip(candidates.tolist(), episodes, starts, strict=True):
            if len(taken) == count:
                break
            if all(abs(start - other) > self._dedupe_radius for other in starts_taken[episode]):
                taken.append(window)
                starts_taken[episode].append(start)
        return np.array(taken, np.int64)

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``; the minimum distance between hard windows is not taken into account."""
        p_base = self._base.probabilities(step, scores, ids)
        if step < self._warmup_steps:
            return p_base
        p_hard = self._hard_probabilities(step, scores, ids) if scores.num_seen else p_base
        mined = (1 - self._uniform_mix) * p_hard + self._uniform_mix / len(self.windows)
        return (1 - self._fraction) * p_base + self._fraction * mined

    def _hard_probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        pool = random_pool(self._stream.at(step), len(self.windows), self._pool_size)
        losses = scores.loss[pool[scores.visits[pool] > 0]]
        if len(losses) == 0:
            return self._base.probabilities(step, scores, ids)
        threshold, count = self._threshold(losses)
        num_above, num_level = int((losses > threshold).sum()), int((losses == threshold).sum())
        # Windows at the threshold share the places that those above it leave: p_hard is uniform over ``count`` windows.
        hard_share = (scores.loss[ids] > threshold) + (scores.loss[ids] == threshold) * (count - num_above) / num_level
        # ``count`` is that of the pool; scaled to all seen windows, of which the pool is a sample.
        return hard_share / (count * scores.num_seen / len(losses))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: with one window there is no choice."""
        return "there is only one window" if len(self.windows) == 1 else None
