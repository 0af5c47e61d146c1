"""Draw an episode, then a valid start in it uniformly: p = P(episode) / n_episode.

``episode_weight: uniform`` is the report's option 1, P(episode) = 1/E, so windows of short episodes weigh more;
``windows`` gives P(episode) = n_episode / N, which is uniform over windows. Source: the training report, option 1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.passes import draw_from_passes, remember_last
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class RandomTemporal:
    """Episodes come independently (``replacement``) or each once a pass over the episodes; starts are always independent.

    Without replacement every episode counts once a pass, so ``episode_weight`` must be ``uniform``.
    """

    def __init__(
        self,
        *,
        windows: WindowTable,
        batch_size: int,
        stream: Stream,
        episode_weight: Literal["uniform", "windows"],
        replacement: bool,
    ) -> None:
        if not replacement and episode_weight != "uniform":
            raise ValueError(
                "sampler.replacement=false draws every episode once a pass, so sampler.episode_weight=windows has no effect: "
                "use episode_weight=uniform or replacement=true"
            )
        self.windows = windows
        self._batch_size = batch_size
        self._stream = stream
        self._replacement = replacement
        # Windows stand episode after episode, so an episode is a run of rows.
        _, self._first, self._count = np.unique(windows.episode, return_index=True, return_counts=True)
        weight = np.ones(len(self._count)) if episode_weight == "uniform" else self._count.astype(float)
        self._episode_probability = weight / weight.sum()
        episodes = stream.child("episodes")
        self._order = remember_last(lambda which: episodes.at(which).permutation(len(self._count)))

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``; scores are not looked at."""
        random = self._stream.at(step)
        if self._replacement:
            # Inverse transform sampling: a binary search a draw, where Generator.choice would build its table every step.
            places = random.random(self._batch_size)
            episode = np.searchsorted(np.cumsum(self._episode_probability), places, side="right")
            episode = np.minimum(episode, len(self._count) - 1)
        else:
            first = step * self._batch_size
            episode = draw_from_passes(self._order, num_windows=len(self._count), first=first, count=self._batch_size)
        return Draw.unweighted(self._first[episode] + random.integers(0, self._count[episode]))

    def probabilities(self, scores: Scores) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: P(episode) shared by its windows."""
        return np.repeat(self._episode_probability / self._count, self._count)

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: with one start an episode there is nothing to draw."""
        if (self._count == 1).all():
            return "every episode has exactly one window, so the random start is always the same"
        return None
