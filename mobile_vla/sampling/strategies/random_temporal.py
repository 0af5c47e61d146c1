"""Draw an episode, then one of its valid start frames uniformly: p = P(episode) / n_episode.

``episode_weight: uniform`` is option 1 of the training report: P(episode) = 1/E, so a window of a short episode is more
likely. ``windows`` gives P(episode) = n_episode / N, which is uniform over windows. Source: the training report,
option 1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import StrictBool

from mobile_vla.errors import ConfigError
from mobile_vla.sampling.contract import Difference
from mobile_vla.sampling.parts.passes import ShuffledPasses
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class RandomTemporal:
    """The sampler ``random_temporal``.

    With ``replacement`` the episodes are drawn independently; without it each is drawn once a pass over the episodes.
    Start frames are always independent. Raises ``ConfigError`` if ``episode_weight`` is not ``uniform`` without
    replacement, because a pass contains every episode once.
    """

    differs_in: Difference | None = "preference"

    def __init__(
        self,
        *,
        windows: WindowTable,
        batch_size: int,
        stream: Stream,
        episode_weight: Literal["uniform", "windows"],
        replacement: StrictBool,
    ) -> None:
        if not replacement and episode_weight != "uniform":
            raise ConfigError(
                f"sampler.episode_weight={episode_weight} has no effect with sampler.replacement=false, which draws "
                "every episode once a pass: use episode_weight=uniform or replacement=true."
            )
        self.windows = windows
        self._batch_size = batch_size
        self._stream = stream
        self._replacement = replacement
        # The rows of an episode are contiguous, because the table is sorted by episode.
        assert (np.diff(windows.episode) >= 0).all()
        _, self._first, self._count = np.unique(windows.episode, return_index=True, return_counts=True)
        weight = np.ones(len(self._count)) if episode_weight == "uniform" else self._count.astype(float)
        self._episode_probability = weight / weight.sum()
        # Divided after the sum. A sum of whole numbers is exact in float64, so the last value is exactly 1.
        self._cumulative = np.cumsum(weight) / weight.sum()
        self._passes = ShuffledPasses(len(self._count), stream.child("episodes"))

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``; scores are not used."""
        random = self._stream.at(step)
        if self._replacement:
            # Inverse transform sampling with a binary search; Generator.choice would build its table at every step.
            episode = np.searchsorted(self._cumulative, random.random(self._batch_size), side="right")
        else:
            episode = self._passes.take(step * self._batch_size, self._batch_size)
        return Draw.unweighted(self._first[episode] + random.integers(0, self._count[episode]))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: P(episode), divided equally among its windows."""
        episode = np.searchsorted(self._first, ids, side="right") - 1
        return (self._episode_probability / self._count)[episode]

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: one window per episode, one episode, or all windows equally likely."""
        if (self._count == 1).all():
            reason = "every episode has exactly one window, so the random start is always the same"
        elif len(self._count) == 1:
            reason = "there is only one episode"
        elif self._replacement and np.ptp(self._episode_probability / self._count) < 1e-12:
            reason = "its episode weights make all windows equally likely"
        else:
            return None
        return reason + ("; drawing with replacement is all that sets it apart" if self._replacement else "")
