"""Draw windows in proportion to a function of their smoothed relative losses, brought up to date in place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.scores import Scores
from mobile_vla.sampling.sum_tree import SumTree

_LEAST, _LARGEST = np.float32(1e-30), np.float32(1e30)
"""Between these a priority is kept, so that all have a finite share of a sum that is above 0."""


class Priorities:
    """The n windows seen so far share n/N of the draws in proportion to ``priority`` of their loss (above 0).

    A window not seen yet is drawn with 1/N, as if it were an average one.
    """

    def __init__(self, priority: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self._priority = priority
        self._scores: Scores | None = None
        self._version = -1
        self._tree = SumTree(np.zeros(0, np.float32))

    def follow(self, scores: Scores) -> None:
        """Bring the weights up to date: who does so at every step need not build them all at once later."""
        self._tree_of(scores)

    def draw(self, random: np.random.Generator, count: int, scores: Scores) -> NDArray[np.int64]:
        """Return ``count`` windows, drawn independently."""
        anywhere = random.integers(0, len(scores.loss), count)
        shares = random.random(count)
        if scores.num_seen == 0:
            return anywhere
        # A window taken anywhere is one of those not seen as often as these are due.
        return np.where(scores.visits[anywhere] > 0, self._tree_of(scores).find(shares), anywhere)

    def probabilities(self, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probabilities of ``ids`` under ``draw``."""
        num_windows = len(scores.loss)
        if scores.num_seen == 0:
            return np.full(len(ids), 1 / num_windows)
        tree = self._tree_of(scores)
        seen_share = scores.num_seen / num_windows
        share = tree.weights[ids].astype(np.float64) / tree.total
        return np.where(scores.visits[ids] > 0, seen_share * share, 1 / num_windows)

    def _weights(self, losses: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore", under="ignore"):
            return np.clip(self._priority(losses), _LEAST, _LARGEST)

    def _tree_of(self, scores: Scores) -> SumTree:
        """Return the tree of ``scores`` as they stand: where only the latest batch is new, that alone is entered."""
        if scores is self._scores and scores.version == self._version:
            return self._tree
        if scores is self._scores and scores.version == self._version + 1 and scores.changed is not None:
            self._tree.set(scores.changed, self._weights(scores.loss[scores.changed]))
        else:
            is_seen = scores.visits > 0
            weights = np.zeros(len(scores.loss), np.float32)
            weights[is_seen] = self._weights(scores.loss[is_seen])
            self._tree = SumTree(weights)
        self._scores, self._version = scores, scores.version
        return self._tree
