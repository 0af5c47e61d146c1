"""Draw in proportion to weights that change all the time, without going through all of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_FAN_OUT = 64


class SumTree:
    """Weights [N] float32 (0 or more), and sums over blocks of 64, over blocks of 64 blocks, and so on, in float64.

    Each sum is computed anew from what is below it, so the tree is a function of its weights and not of the order in
    which they came. It takes 4.1 bytes a weight. The idea is the sum tree of prioritized experience replay (Schaul et
    al. 2016), with wide nodes because numpy is fast along rows.
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
        """The weights [N], a view."""
        return self._levels[0][: self._num_weights]

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(_block_sums(self._levels[-1][None])[0])

    def set(self, ids: NDArray[np.int64], weights: NDArray[np.float32]) -> None:
        """Give ``ids`` (each once) new weights."""
        self._levels[0][ids] = weights
        for below, above in pairwise(self._levels):
            ids = np.unique(ids // _FAN_OUT)
            above[ids] = _block_sums(below.reshape(-1, _FAN_OUT)[ids])

    def find(self, shares: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the ids at which the running sum of the weights passes ``shares`` [B] in [0, 1) of the total.

        An id whose weight is 0 is never found; the total must be above 0.
        """
        mass, block = shares * self.total, np.zeros(len(shares), np.int64)
        rows = np.arange(len(shares))
        for level in reversed(self._levels):
            running = level.reshape(-1, _FAN_OUT)[block].cumsum(1, dtype=np.float64)
            # Not past the last weight above 0: rounding may leave a mass just above the sum of the row.
            last = (running < running[:, -1:]).sum(1)
            child = np.minimum((running <= mass[:, None]).sum(1), last)
            mass = mass - np.where(child > 0, running[rows, child - 1], 0)
            block = block * _FAN_OUT + child
        return block


def _block_sums(blocks: NDArray[np.floating]) -> NDArray[np.float64]:
    # Converted first, so that a block is summed in the same order whether it comes alone or among others.
    return blocks.astype(np.float64).sum(1)
