"""Sum up training losses and errors between two log lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class TrainSums:
    """Sums since the last reset: ``train/loss`` over windows (also by scenario), ``train/rmse`` over targets."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def add(self, *, losses_B: np.ndarray, scenario: Sequence[str], squared_error: float, num_targets: int) -> None:
        """Count one batch: its losses [B], not weighted, and the squared error of its current-frame targets."""
        self._add("train/loss", float(losses_B.sum(dtype=np.float64)), len(losses_B))
        for name in sorted(set(scenario)):
            chosen = losses_B[np.array(scenario) == name]
            self._add(f"train/loss/scenario_{name}", float(chosen.sum(dtype=np.float64)), len(chosen))
        self._add("train/rmse", squared_error, num_targets)

    def _add(self, name: str, value: float, count: int) -> None:
        total = self._sums.setdefault(name, [0.0, 0.0])
        total[0] += value
        total[1] += count

    def metrics(self) -> dict[str, float]:
        """Return the means so far; nothing before the first batch."""
        means = {name: total / count for name, (total, count) in sorted(self._sums.items()) if count}
        if "train/rmse" in means:
            means["train/rmse"] = float(np.sqrt(means["train/rmse"]))
        return means

    def reset(self) -> None:
        """Start anew."""
        self._sums.clear()

    def state(self) -> dict[str, list[float]]:
        """Return what a checkpoint needs."""
        return {name: list(values) for name, values in self._sums.items()}

    def load(self, state: dict[str, list[float]]) -> None:
        """Take over what ``state`` returned."""
        self._sums = {name: list(values) for name, values in state.items()}
