"""Draw uniformly from the easiest share g(t) of the windows; g grows linearly from ``start`` to 1 at ``full_at_step``.

``order: loss`` is self-paced learning (Kumar et al., NeurIPS 2010): a window is easy if this run's smoothed loss of it
is low, and windows not seen yet come first. ``order: file`` reads the difficulties from a window score file, such as
the losses of another run (Hacohen and Weinshall, ICML 2019). ``order: random`` is a control with the same pacing and
random difficulties, fixed by the seed; published curricula mostly turned out to equal it (Wu et al., When Do Curricula
Work?, ICLR 2021).
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from mobile_vla.errors import ConfigError
from mobile_vla.sampling.contract import CHANGES_THE_SAMPLER, Difference
from mobile_vla.sampling.parts.passes import Permutation
from mobile_vla.sampling.parts.pools import random_pool, rank_shares
from mobile_vla.sampling.score_file import read_window_scores
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Curriculum:
    """The sampler ``curriculum``; windows that may be drawn at a step are called open.

    A batch repeats no window if at least ``batch_size`` windows are open. For a large table, each step draws a random
    pool of windows and opens the easiest of the pool.
    """

    differs_in: Difference | None = "preference"

    def __init__(
        self,
        *,
        windows: WindowTable,
        batch_size: int,
        stream: Stream,
        order: Literal["loss", "file", "random"],
        file: str | None,
        start: Annotated[float, Field(gt=0, le=1)],
        full_at_step: Annotated[PositiveInt, CHANGES_THE_SAMPLER],
    ) -> None:
        if (order == "file") != (file is not None):
            raise ConfigError(
                f"sampler.file={file} with sampler.order={order}: order=file needs a window score file, the others "
                "take none. Give both or neither."
            )
        self.windows = windows
        self._batch_size = batch_size
        self._stream = stream
        self._start = start
        self._full_at_step = full_at_step
        self._fixed: NDArray[np.float32] | None = None
        if file is not None:
            self._fixed = read_window_scores(file, windows, option="sampler.file")
        elif order == "random":
            shuffled = Permutation.of(len(windows), stream.child("order").at(0))
            self._fixed = shuffled(np.arange(len(windows))).astype(np.float32)

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``."""
        random = self._stream.at(step)
        pool = random_pool(random, len(self.windows))
        # The pool is in random order and the sort is stable, so ties are broken at random.
        order = np.argsort(self._difficulty(pool, scores), kind="stable")
        open_windows = pool[order[: self._num_open(step, len(pool))]]
        needs_repeats = len(open_windows) < self._batch_size
        return Draw.unweighted(random.choice(open_windows, self._batch_size, replace=needs_repeats))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: 1 / (g N) for open windows; windows tied at the threshold share the rest."""
        pool = random_pool(self._stream.at(step), len(self.windows))
        share = self._num_open(step, len(pool)) / len(pool)
        below, not_above = rank_shares(self._difficulty(pool, scores), self._difficulty(ids, scores))
        is_open = np.clip((share - below) / np.maximum(not_above - below, 1 / len(pool)), 0, 1)
        return is_open / (share * len(self.windows))

    def _num_open(self, step: int, num_windows: int) -> int:
        share = min(1.0, self._start + (1 - self._start) * step / self._full_at_step)
        return max(round(share * num_windows), 1)

    def _difficulty(self, ids: NDArray[np.int64], scores: Scores) -> NDArray[np.float32]:
        if self._fixed is not None:
            return self._fixed[ids]
        loss = scores.loss[ids]
        # Windows not seen yet count as the easiest. NaN would be sorted last: the windows drawn first would stay open,
        # and the others would have to wait until g has grown.
        return np.where(np.isnan(loss), np.float32(-np.inf), loss)

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: one window, or all of them open from the first step."""
        if len(self.windows) == 1:
            return "there is only one window"
        return "all windows are open from the start (sampler.start=1)" if self._start == 1 else None
