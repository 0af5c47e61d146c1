"""Draw the B windows of highest reducible loss (loss minus irreducible loss) among B / ``keep`` uniform candidates.

The irreducible loss of a window is the loss of a model that was trained without its episode, from a window score file
that ``python -m mobile_vla irreducible`` writes. If such a model also gets a window wrong, the window is noise or needs
other data. Source: Mindermann et al., Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet
Learnt (ICML 2022, 2206.07137); they keep a tenth of the candidates and train that model on held-out data.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import gammaln

from mobile_vla.sampling.contract import Difference, ScoreWindows
from mobile_vla.sampling.parts.pools import expected_losses, mean_by_rank, random_pool
from mobile_vla.sampling.score_file import read_window_scores
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Rho:
    """The sampler ``rho``; it draws no window twice in a batch.

    A batch that is larger than the table repeats the windows in order of reducible loss, the highest first.
    """

    differs_in: Difference | None = "preference"

    def __init__(
        self,
        *,
        windows: WindowTable,
        batch_size: int,
        stream: Stream,
        file: str,
        keep: Annotated[float, Field(gt=0, le=1)],
    ) -> None:
        self.windows = windows
        self._batch_size = batch_size
        self._stream = stream
        self._num_candidates = int(np.ceil(batch_size / keep))
        self._irreducible = read_window_scores(file, windows, option="sampler.file")

    def draw(self, step: int, scores: Scores, score_windows: ScoreWindows) -> Draw:
        """See ``Sampler.draw``."""
        # The candidates are in random order and the sort is stable, so ties are broken at random.
        candidates = random_pool(self._stream.at(step), len(self.windows), self._num_candidates)
        reducible = score_windows(candidates, "loss") - self._irreducible[candidates]
        order = np.argsort(-reducible, kind="stable")
        return Draw.unweighted(np.resize(candidates[order], self._batch_size))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: P(the window is a candidate and fewer than B candidates are better)."""
        pool = random_pool(self._stream.at(step), len(self.windows))
        chosen = self._chosen_by_rank(len(pool))
        own = mean_by_rank(chosen, -self._reducible(scores, pool, pool), -self._reducible(scores, ids, pool))
        return own / chosen.mean() / len(self.windows)

    def _chosen_by_rank(self, num_ranks: int) -> NDArray[np.float64]:
        """Return how often a candidate is expected to be drawn, at ``num_ranks`` even steps through the ranks 0 .. N-1.

        The rank of a window is its place among all N windows by reducible loss, the highest first.
        """
        num_windows, size = len(self.windows), self._batch_size
        rank = (np.arange(num_ranks) + 0.5) * num_windows / num_ranks - 0.5
        if self._num_candidates > num_windows * (1 - 1 / num_ranks):
            # All windows are candidates, or so nearly all that the difference is below the resolution of the steps.
            return size // num_windows + (rank < size % num_windows).astype(float)
        if self._num_candidates == size:  # every candidate is drawn
            return np.ones(num_ranks)
        # From one rank to the next, the probability of being drawn falls by the probability that the B-th best of the
        # other candidates has exactly this rank. At whole ranks the result equals
        # scipy.stats.hypergeom.cdf(B - 1, N - 1, rank, C - 1), which takes half a second for 16,384 ranks. Logarithms
        # of the binomial coefficients, shifted by their maximum, because the coefficients themselves would overflow.
        is_possible = (rank > size - 1.5) & (num_windows - 2 - rank > self._num_candidates - size - 1.5)
        place = np.full(num_ranks, -np.inf)
        place[is_possible] = _log_choose(rank[is_possible], size - 1)
        place[is_possible] += _log_choose(num_windows - 2 - rank[is_possible], self._num_candidates - size - 1)
        falls = np.exp(place - place.max())
        return np.maximum(1 - (np.cumsum(falls) - falls) / falls.sum(), 0)

    def _reducible(self, scores: Scores, ids: NDArray[np.int64], pool: NDArray[np.int64]) -> NDArray[np.float64]:
        return scores.level * expected_losses(scores, ids, pool=pool) - self._irreducible[ids]

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: every candidate is drawn, all equally often."""
        if self._num_candidates >= len(self.windows):
            is_each_drawn = self._batch_size % len(self.windows) == 0
        else:
            is_each_drawn = self._num_candidates == self._batch_size
        return "every candidate is drawn" if is_each_drawn else None


def _log_choose(n: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return the logarithm of the number of ways to choose ``k`` out of ``n``."""
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
