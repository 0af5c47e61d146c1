"""Draw windows in proportion to a function of their smoothed relative losses, with a sum tree updated in place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.parts.sum_tree import SumTree
from mobile_vla.sampling.scores import Scores

_LEAST, _LARGEST = np.float32(1e-30), np.float32(1e30)
"""Priorities are clipped to this range, so that their sum is finite and above 0."""


class Priorities:
    """Draws of windows, where the n windows seen so far get n/N of them in proportion to ``priority`` of their loss.

    ``priority`` is above 0. A window not seen yet has the probability 1/N, as if it were an average one.
    """

    def __init__(self, priority: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self._priority = priority
        self._scores: Scores | None = None
        self._version = -1
        self._tree = SumTree(np.zeros(0, np.float32))

    def follow(self, scores: Scores) -> None:
        """Update the weights. A caller that does this at every step avoids building the whole tree later."""
        self._tree_of(scores)

    def draw(self, random: np.random.Generator, count: int, scores: Scores) -> NDArray[np.int64]:
        """Return ``count`` windows, drawn independently."""
        anywhere = random.integers(0, len(scores.loss), count)
        shares = random.random(count)
        if scores.num_seen == 0:
            return anywhere
        # A uniform draw is a window not seen yet with exactly the probability that those windows have together.
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
        """Return the tree of the current ``scores``; if only the latest batch is new, only its windows are updated."""
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
