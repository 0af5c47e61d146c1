"""Keep what training has said of every window so far: smoothed loss, visits, last step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Scores:
    """The score table of adaptive samplers, one entry a window.

    ``loss`` [N] float32 is the exponential moving average of the window's loss (NaN until the first visit), ``visits``
    [N] int32, ``last_step`` [N] int32 (-1 until the first visit). ``smoothing`` in [0, 1) is the weight of the past: 0
    keeps the latest loss alone.
    """

    def __init__(self, num_windows: int, *, smoothing: float) -> None:
        if not 0 <= smoothing < 1:
            raise ValueError(f"score smoothing {smoothing}: expected a weight of the past in [0, 1), such as 0.5")
        self.smoothing = smoothing
        self.loss: NDArray[np.float32] = np.full(num_windows, np.nan, np.float32)
        self.visits: NDArray[np.int32] = np.zeros(num_windows, np.int32)
        self.last_step: NDArray[np.int32] = np.full(num_windows, -1, np.int32)

    def update(self, step: int, ids: NDArray[np.int64], losses: NDArray[np.float32]) -> None:
        """Enter the ``losses`` [B] of the windows ``ids`` [B] seen at ``step``.

        A window that stands twice in a batch counts once, with its mean loss. Losses that are not finite never enter.
        """
        finite = np.isfinite(losses)
        unique, inverse, counts = np.unique(ids[finite], return_inverse=True, return_counts=True)
        if not len(unique):
            return
        mean = np.bincount(inverse, weights=losses[finite]) / counts
        old = self.loss[unique]
        weight = np.where(self.visits[unique] == 0, 0.0, self.smoothing)
        self.loss[unique] = weight * np.nan_to_num(old) + (1 - weight) * mean
        self.visits[unique] += 1
        self.last_step[unique] = step

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays a checkpoint needs."""
        return {"loss": self.loss, "visits": self.visits, "last_step": self.last_step}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take over what ``state`` returned, for a table of the same length."""
        for name, array in self.state().items():
            array[:] = state[name]
