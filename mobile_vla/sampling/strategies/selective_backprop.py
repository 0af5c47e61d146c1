"""Keep a candidate window with probability CDF(loss)^beta, the CDF of the candidates' losses: p ~ CDF(loss)^beta.

Candidates are taken from shuffled passes, ``candidates_per_draw`` times the batch size at each step, and the current
model measures their losses. With beta = 2 a third of them is kept. Source: Jiang et al., Accelerating Deep Learning by
Focusing on the Biggest Losers (1910.00762), who use the CDF of the losses of the last steps instead.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat

from mobile_vla.sampling.contract import Difference, ScoreWindows
from mobile_vla.sampling.parts.passes import ShuffledPasses
from mobile_vla.sampling.parts.pools import expected_losses, random_pool, rank_shares
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class SelectiveBackprop:
    """The sampler ``selective_backprop``.

    If too few candidates are kept for a batch, the same candidates are tried again, so a window may be drawn twice.
    Kept candidates beyond the batch size are dropped; they come again in a later pass.
    """

    differs_in: Difference | None = "preference"

    def __init__(
        self,
        *,
        windows: WindowTable,
        batch_size: int,
        stream: Stream,
        beta: NonNegativeFloat,
        candidates_per_draw: Annotated[int, Field(ge=1)],
    ) -> None:
        self.windows = windows
        self._batch_size = batch_size
        self._stream = stream
        self._beta = beta
        self._num_candidates = candidates_per_draw * batch_size
        self._passes = ShuffledPasses(len(windows), stream.child("candidates"))

    def draw(self, step: int, scores: Scores, score_windows: ScoreWindows) -> Draw:
        """See ``Sampler.draw``."""
        candidates = self._passes.take(step * self._num_candidates, self._num_candidates)
        losses = score_windows(candidates, "loss")
        keep_probability = rank_shares(losses, losses)[1] ** self._beta
        random, kept = self._stream.at(step), np.zeros(0, np.int64)
        while len(kept) < self._batch_size:
            kept = np.concatenate([kept, candidates[random.random(len(candidates)) < keep_probability]])
        return Draw.unweighted(kept[: self._batch_size])

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: the value for a large number of candidates."""
        pool = random_pool(self._stream.at(step), len(self.windows))
        losses = expected_losses(scores, pool, pool=pool)
        kept = rank_shares(losses, losses)[1] ** self._beta
        own = rank_shares(losses, expected_losses(scores, ids, pool=pool))[1] ** self._beta
        return own / (kept.mean() * len(self.windows))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: one window, or beta is 0."""
        if len(self.windows) == 1:
            return "there is only one window"
        return "sampler.beta=0 keeps every candidate" if self._beta == 0 else None
