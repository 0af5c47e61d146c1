"""Draw in proportion to weights that change at every step, without a pass over all of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_FAN_OUT = 64


class SumTree:
    """A tree of sums: weights [N] float32 (0 or more), sums of blocks of 64 weights in float64, sums of 64 sums, etc.

    A sum is never updated by a difference. It is computed again from all its children, so the tree depends only on the
    current weights, not on the order of the updates; rounding errors cannot accumulate, and a resumed run draws the
    same. It takes 4.1 bytes a weight. Source: the sum tree of prioritized experience replay (Schaul et al. 2016); the
    nodes are wide because numpy is fast along rows.
    """

    def __init__(self, weights: NDArray[np.float32]) -> None:
        padded = np.zeros(-(-len(weights) // _FAN_OUT) * _FAN_OUT, np.float32)
        padded[: len(weights)] = weights
        self._levels: list[NDArray[np.floating]] = [padded]
        while len(self._levels[-1]) > _FAN_OUT:
            sums = _block_sums(self._levels[-1].reshape(-1, _FAN_OUT))
            self._levels.append(np.pad(sums, (0, -len(sums) % _FAN_OUT)))
        self._num_weights = len(weights)

    @property
    def weights(self) -> NDArray[np.float32]:
        """The weights [N] as a view."""
        return self._levels[0][: self._num_weights]

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(_block_sums(self._levels[-1][None])[0])

    def set(self, ids: NDArray[np.int64], weights: NDArray[np.float32]) -> None:
        """Set the weights of ``ids``, which must be different, and update the sums above them."""
        self._levels[0][ids] = weights
        for below, above in pairwise(self._levels):
            ids = np.unique(ids // _FAN_OUT)
            above[ids] = _block_sums(below.reshape(-1, _FAN_OUT)[ids])

    def find(self, shares: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the ids at which the running sum of the weights exceeds ``shares`` [B] in [0, 1) of the total.

        An id with weight 0 is never returned. The total must be above 0.
        """
        mass, block = shares * self.total, np.zeros(len(shares), np.int64)
        rows = np.arange(len(shares))
        for level in reversed(self._levels):
            running = level.reshape(-1, _FAN_OUT)[block].cumsum(1, dtype=np.float64)
            # At most the last child with a weight above 0: by rounding, the mass may be just above the sum of the row.
            last = (running < running[:, -1:]).sum(1)
            child = np.minimum((running <= mass[:, None]).sum(1), last)
            mass = mass - np.where(child > 0, running[rows, child - 1], 0)
            block = block * _FAN_OUT + child
        return block


def _block_sums(blocks: NDArray[np.floating]) -> NDArray[np.float64]:
    # Converted to float64 first, so that a block is summed in the same order whether it is alone or among others.
    return blocks.astype(np.float64).sum(1)
