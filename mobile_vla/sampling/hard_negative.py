"""Replace each window of a base order with probability ``fraction`` by a hard one: p = (1-f) p_base + f ((1-u) p_hard + u/N).

p_hard is uniform over the ``top_fraction`` of the windows seen so far with the highest smoothed loss; u
(``uniform_mix``) keeps every window reachable. Hard picks of one batch are at least ``dedupe_radius`` + 1 frames apart
in an episode (the time-line twin of non-maximum suppression in OHEM, Shrivastava et al. 2016). Source: the training
report, option 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.contract import SamplerFactory
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class HardNegative:
    """Mines after ``warmup_passes`` passes' worth of draws; a base window that was replaced waits for a later pass."""

    def __init__(
        self,
        *,
        windows: WindowTable,
        batch_size: int,
        stream: Stream,
        base: SamplerFactory,
        fraction: float,
        top_fraction: float,
        uniform_mix: float,
        warmup_passes: float,
        dedupe_radius: int,
    ) -> None:
        for name, value in (("fraction", fraction), ("top_fraction", top_fraction), ("uniform_mix", uniform_mix)):
            if not 0 <= value <= 1:
                raise ValueError(f"sampler.{name}={value}: expected a share between 0 and 1")
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
        seen = np.flatnonzero(scores.visits > 0)
        count = int(np.ceil(self._top_fraction * len(seen)))
        if count == 0:
            return seen[:0]
        # Sorted by (loss, id): equal losses must not leave the choice to the partition's internals.
        return seen[np.lexsort((seen, -scores.loss[seen]))[:count]]

    def _spread_out(self, candidates: NDArray[np.int64], *, count: int) -> NDArray[np.int64]:
        """Take the first ``count`` candidates that keep their distance from those taken."""
        taken: list[int] = []
        for window in candidates.tolist():
            if len(taken) == count:
                break
            near = np.abs(self.windows.start[taken] - self.windows.start[window]) <= self._dedupe_radius
            if not (near & (self.windows.episode[taken] == self.windows.episode[window])).any():
                taken.append(window)
        return np.array(taken, np.int64)

    def probabilities(self, scores: Scores) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``; the suppression of near-duplicates inside a batch is left out of it."""
        base = self._base.probabilities(scores)
        hard = self._hard_windows(scores)
        if len(hard) == 0:
            return base
        mined = np.full(len(self.windows), self._uniform_mix / len(self.windows))
        mined[hard] += (1 - self._uniform_mix) / len(hard)
        return (1 - self._fraction) * base + self._fraction * mined

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: mining needs more windows than a batch holds."""
        if self._fraction == 0:
            return "sampler.fraction=0 mines nothing"
        if len(self.windows) <= self._batch_size:
            return f"one batch ({self._batch_size}) holds all {len(self.windows)} windows"
        return None
