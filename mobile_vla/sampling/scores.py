"""Record the training losses of every window so far: smoothed relative loss, number of visits, last step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import ConfigError
from mobile_vla.schema import WindowTable

_LEVEL_WINDOWS = 128
"""Time constant of ``Scores.level``, in windows: enough for a mean, short compared with the fall of the loss."""


class Scores:
    """The score table of adaptive samplers, with one entry for each window, and a log of the scenarios' losses.

    The loss falls while the model learns, so the loss of a window that was seen long ago says mostly when that was. The
    table therefore stores relative losses: ``loss`` [N] float32 is the exponential moving average of the window's loss
    divided by ``level`` (NaN until the first visit). ``level`` is the current loss of an average window: the sum of the
    latest losses divided by the sum of their windows' scores, where a new window counts with the score 1. So the mean
    score stays near 1 whichever windows are drawn, and loss x ``level`` estimates the current loss of a window.

    ``visits`` [N] int32; ``last_step`` [N] int32 (-1 until the first visit). ``smoothing`` in [0, 1) is the weight of
    the past: 0 keeps only the latest loss. ``scenario_losses`` has one row [S] float32 for each update: the mean
    absolute (not relative) loss of the scenario's windows in that update, NaN where it had none. ``num_seen`` is the
    number of windows with a score.

    ``version`` counts the updates. ``changed`` are the ids of the latest update (None: all), so that a structure that
    is derived from the table can be updated instead of built again.
    """

    def __init__(self, windows: WindowTable, *, smoothing: float) -> None:
        if not 0 <= smoothing < 1:
            raise ConfigError(
                f"trainer.score_smoothing={smoothing}: expected a weight of the past in [0, 1), such as 0.5."
            )
        num_windows = len(windows)
        self.smoothing = smoothing
        self.loss: NDArray[np.float32] = np.full(num_windows, np.nan, np.float32)
        self.visits: NDArray[np.int32] = np.zeros(num_windows, np.int32)
        self.last_step: NDArray[np.int32] = np.full(num_windows, -1, np.int32)
        self.scenario_losses: list[NDArray[np.float32]] = []
        self._latest_losses = self._latest_scores = 0.0
        self.num_seen = 0
        self.version = 0
        self.changed: NDArray[np.int64] | None = None
        self._scenario, self._num_scenarios = windows.scenario, len(windows.scenario_names)

    @property
    def level(self) -> float:
        """Current loss of an average window; 1 before the first update, and while all losses are 0."""
        known = self._latest_losses > 0 and self._latest_scores > 0
        return self._latest_losses / self._latest_scores if known else 1.0

    def update(self, step: int, ids: NDArray[np.int64], losses: NDArray[np.float32]) -> None:
        """Record the ``losses`` [B], 0 or more, of the windows ``ids`` [B] seen at ``step``.

        A window that is twice in a batch counts once, with its mean loss. Losses that are not finite are ignored.
        """
        is_finite = np.isfinite(losses)
        seen, place, counts = np.unique(ids[is_finite], return_inverse=True, return_counts=True)
        mean = np.bincount(place, weights=losses[is_finite], minlength=len(seen)) / counts
        is_new = self.visits[seen] == 0
        self._follow_level(mean, np.where(is_new, 1, self.loss[seen]))
        relative = mean / self.level
        self.loss[seen] = np.where(is_new, relative, self.smoothing * self.loss[seen] + (1 - self.smoothing) * relative)
        self.num_seen += int(is_new.sum())
        self.visits[seen] += 1
        self.last_step[seen] = step
        self.scenario_losses.append(self._mean_by_scenario(seen, mean))
        self.version += 1
        self.changed = seen

    def _follow_level(self, losses: NDArray[np.float64], scores: NDArray[np.float64]) -> None:
        # Decay by the number of windows, not by the update, so that the batch size does not change the time scale.
        past = np.exp(-len(losses) / _LEVEL_WINDOWS)
        self._latest_losses = past * self._latest_losses + losses.sum()
        self._latest_scores = past * self._latest_scores + scores.sum()

    def _mean_by_scenario(self, ids: NDArray[np.int64], losses: NDArray[np.float64]) -> NDArray[np.float32]:
        scenario = self._scenario[ids]
        counts = np.bincount(scenario, minlength=self._num_scenarios)
        sums = np.bincount(scenario, weights=losses, minlength=self._num_scenarios)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return copies of the arrays that a checkpoint stores."""
        log = np.array(self.scenario_losses, np.float32).reshape(-1, self._num_scenarios)
        return {
            "loss": self.loss.copy(),
            "visits": self.visits.copy(),
            "last_step": self.last_step.copy(),
            "scenario_losses": log,
            "level": np.array([self._latest_losses, self._latest_scores]),
        }

    def load(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Restore what ``state`` returned for a table of the same length."""
        for name in ("loss", "visits", "last_step"):
            array = getattr(self, name)
            assert array.shape == state[name].shape
            array[:] = state[name]
        self.scenario_losses = list(state["scenario_losses"].astype(np.float32))
        self._latest_losses, self._latest_scores = state["level"].tolist()
        self.num_seen = int((self.visits > 0).sum())
        self.version += 1
        self.changed = None
