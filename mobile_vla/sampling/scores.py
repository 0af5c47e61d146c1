"""Keep what training has said of every window so far: smoothed loss, visits, last step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import ConfigError


class Scores:
    """The score table of adaptive samplers, one entry a window.

    ``loss`` [N] float32 is the exponential moving average of the window's loss (NaN until the first visit), ``visits``
    [N] int32, ``last_step`` [N] int32 (-1 until the first visit). ``smoothing`` in [0, 1) is the weight of the past: 0
    keeps the latest loss alone.
    """

    def __init__(self, num_windows: int, *, smoothing: float) -> None:
        if not 0 <= smoothing < 1:
            raise ConfigError(
                f"trainer.score_smoothing={smoothing}: expected a weight of the past in [0, 1), such as 0.5."
            )
        self.smoothing = smoothing
        self.loss: NDArray[np.float32] = np.full(num_windows, np.nan, np.float32)
        self.visits: NDArray[np.int32] = np.zeros(num_windows, np.int32)
        self.last_step: NDArray[np.int32] = np.full(num_windows, -1, np.int32)

    def update(self, step: int, ids: NDArray[np.int64], losses: NDArray[np.float32]) -> None:
        """Enter the ``losses`` [B] of the windows ``ids`` [B] seen at ``step``.

        A window that stands twice in a batch counts once, with its mean loss. Losses that are not finite never enter.
        """
        is_finite = np.isfinite(losses)
        seen, place, counts = np.unique(ids[is_finite], return_inverse=True, return_counts=True)
        mean = np.bincount(place, weights=losses[is_finite], minlength=len(seen)) / counts
        smoothed = self.smoothing * self.loss[seen] + (1 - self.smoothing) * mean
        self.loss[seen] = np.where(self.visits[seen] == 0, mean, smoothed)
        self.visits[seen] += 1
        self.last_step[seen] = step

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return copies of the arrays a checkpoint needs."""
        return {"loss": self.loss.copy(), "visits": self.visits.copy(), "last_step": self.last_step.copy()}

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over what ``state`` returned, of a table of the same length."""
        for name in ("loss", "visits", "last_step"):
            array = getattr(self, name)
            assert array.shape == state[name].shape
            array[:] = state[name]
