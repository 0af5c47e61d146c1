"""Replace draws of a base order by hard windows: p = (1 - f) p_base + f ((1 - u) p_hard + u / N).

f is ``fraction``. p_hard is uniform over the ``top_fraction`` of the windows seen so far with the highest smoothed
loss; u (``uniform_mix``) keeps every window reachable. Hard picks of one batch are more than ``dedupe_radius`` frames
apart in an episode (the time-line twin of non-maximum suppression in OHEM, Shrivastava et al. 2016). Source: the
training report, option 3.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from mobile_vla.sampling.contract import SamplerFactory
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream

_PositiveShare = Annotated[float, Field(gt=0, le=1)]


class HardNegative:
    """Mines after ``warmup_passes`` passes' worth of draws; a base window that was replaced waits for a later pass.

    Where no hard window is left (none seen yet, all others too near to those taken) the base window stays.
    """

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
        self._warmup_steps = int(np.ceil(warmup_passes * len(windows) / batch_size))
        self._dedupe_radius = dedupe_radius

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``."""
        ids = self._base.draw(step, scores).ids
        if step < self._warmup_steps:
            return Draw.unweighted(ids)
        random = self._stream.at(step)
        is_mined = random.random(self._batch_size) < self._fraction
        is_uniform = random.random(self._batch_size) < self._uniform_mix
        anywhere = random.integers(0, len(self.windows), self._batch_size)
        ids = np.where(is_mined & is_uniform, anywhere, ids)
        slots = np.flatnonzero(is_mined & ~is_uniform)
        hard = self._spread_out(random.permutation(self._hard_windows(scores)), count=len(slots))
        ids[slots[: len(hard)]] = hard
        return Draw.unweighted(ids)

    def _hard_windows(self, scores: Scores) -> NDArray[np.int64]:
        """Return the ids of the seen windows with the highest loss; of equal losses the lower ids."""
        seen = np.flatnonzero(scores.visits > 0)
        if len(seen) == 0:
            return seen
        count = max(round(self._top_fraction * len(seen)), 1)
        loss = scores.loss[seen]
        # A partition instead of a sort, for speed; ties are settled here, not by its internals.
        threshold = np.partition(loss, len(loss) - count)[len(loss) - count]
        above, level = seen[loss > threshold], seen[loss == threshold]
        return np.concatenate([above, level[: count - len(above)]])

    def _spread_out(self, candidates: NDArray[np.int64], *, count: int) -> NDArray[np.int64]:
        """Take the first ``count`` candidates that keep their distance from those taken before them."""
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

    def probabilities(self, scores: Scores) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``, after the warm-up; that hard picks of a batch differ is left out of it."""
        p_base = self._base.probabilities(scores)
        hard = self._hard_windows(scores)
        p_hard = np.zeros(len(self.windows))
        p_hard[hard] = 1 / max(len(hard), 1)
        mined = (1 - self._uniform_mix) * (p_hard if len(hard) else p_base) + self._uniform_mix / len(self.windows)
        return (1 - self._fraction) * p_base + self._fraction * mined

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: one window leaves nothing to choose."""
        return "there is only one window" if len(self.windows) == 1 else None
