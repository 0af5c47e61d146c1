"""Keep candidate windows with probability CDF(loss)^beta, their loss ranked among the candidates: p ~ CDF(loss)^beta.

Candidates come in shuffled passes, ``candidates_per_draw`` times as many as the batch needs, and are asked for their
loss as the model is now. With beta 2 a third of them is kept. Source: Jiang et al., Accelerating Deep Learning by
Focusing on the Biggest Losers (1910.00762), whose CDF is over the losses of the last steps instead.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat

from mobile_vla.sampling.contract import Look
from mobile_vla.sampling.passes import ShuffledPasses
from mobile_vla.sampling.pools import expected_losses, random_pool, rank_shares
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class SelectiveBackprop:
    """Candidates that are not enough for a batch are gone through again; those left over wait for a later pass."""

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

    def draw(self, step: int, scores: Scores, look: Look) -> Draw:
        """See ``Sampler.draw``."""
        candidates = self._passes.take(step * self._num_candidates, self._num_candidates)
        losses = look(candidates, "loss")
        keep_probability = rank_shares(losses, losses)[1] ** self._beta
        random, kept = self._stream.at(step), np.zeros(0, np.int64)
        while len(kept) < self._batch_size:
            kept = np.concatenate([kept, candidates[random.random(len(candidates)) < keep_probability]])
        return Draw.unweighted(kept[: self._batch_size])

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``, as of many candidates."""
        pool = random_pool(self._stream.at(step), len(self.windows))
        losses = expected_losses(scores, pool, pool=pool)
        kept = rank_shares(losses, losses)[1] ** self._beta
        own = rank_shares(losses, expected_losses(scores, ids, pool=pool))[1] ** self._beta
        return own / (kept.mean() * len(self.windows))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: one window, or a beta of 0."""
        if len(self.windows) == 1:
            return "there is only one window"
        return "sampler.beta=0 keeps every candidate" if self._beta == 0 else None
