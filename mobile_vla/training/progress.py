"""Hold where a training run stands: everything but policy, optimiser and scores that a resumed run must know."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mobile_vla.metrics import ERROR
from mobile_vla.sampling.diagnostics import DrawStatistics
from mobile_vla.training.metrics import TrainSums

_SCALARS = (
    *("step", "evaluated_at", "logged_at", "learning_rate", "grad_norm", "skipped_steps", "windows_scored"),
    *("wall_s", "data_wait_s", "best_val_rmse"),
)


@dataclass(kw_only=True)
class Progress:
    """``step`` counts the steps done; ``latest`` holds the newest value of every metric that was logged.

    ``skipped_steps`` of them changed no weight because their gradient overflowed; None where it cannot.
    ``windows_scored`` counts the windows that a sampler asked about before it drew.
    """

    drawn: DrawStatistics
    sums: TrainSums = field(default_factory=TrainSums)
    step: int = 0
    evaluated_at: int | None = None
    logged_at: int | None = None
    learning_rate: float = 0.0
    grad_norm: float = 0.0
    skipped_steps: int | None = None
    windows_scored: int = 0
    wall_s: float = 0.0
    data_wait_s: float = 0.0
    best_val_rmse: float | None = None
    latest: dict[str, float] = field(default_factory=dict)
    _clock: float = field(default_factory=time.perf_counter)
    _windows: int = 0
    _train_s: float = 0.0

    def skip_step(self) -> None:
        """Count a step whose gradient overflowed."""
        self.skipped_steps = (self.skipped_steps or 0) + 1

    def finish_step(self, *, num_windows: int, seconds: float) -> None:
        """Count a step that took ``seconds``, from the draw to the changed weights."""
        self.step += 1
        self._windows += num_windows
        self._train_s += seconds

    def tick(self) -> None:
        """Bring ``wall_s`` up to now; time between two processes of one run does not count."""
        now = time.perf_counter()
        self.wall_s += now - self._clock
        self._clock = now

    def row(self, evaluation: Mapping[str, float], *, batch_size: int) -> dict[str, float]:
        """Return the log row of this step: its counters, the training means so far, and ``evaluation``.

        ``train/windows_per_s`` is over the steps since the last row, which evaluations are no part of.
        """
        self.tick()
        row: dict[str, float] = {"step": self.step, "samples_seen": self.step * batch_size}
        row["windows_scored"] = self.windows_scored
        if self.step:
            row |= self.sums.metrics()
            row |= {"train/learning_rate": self.learning_rate, "train/grad_norm": self.grad_norm}
            if self.skipped_steps is not None:
                row["train/skipped_steps"] = self.skipped_steps
        if self._windows:
            row["train/windows_per_s"] = self._windows / self._train_s
            self._windows, self._train_s = 0, 0.0
        row |= evaluation
        row |= {"wall_s": self.wall_s, "data_wait_s": self.data_wait_s}
        self.latest |= row
        self.logged_at = self.step
        return row

    def is_new_best(self, evaluation: Mapping[str, float]) -> bool:
        """Note this step's evaluation; True when its ``val/rmse`` is the lowest so far."""
        self.evaluated_at = self.step
        rmse = evaluation[ERROR]
        if self.best_val_rmse is not None and not rmse < self.best_val_rmse:  # so that NaN is not the best either
            return False
        self.best_val_rmse = rmse
        return True

    def values(self) -> dict[str, Any]:
        """Return what of a checkpoint is JSON."""
        self.tick()
        return {name: getattr(self, name) for name in _SCALARS} | {"latest": self.latest, "sums": self.sums.state()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what of a checkpoint is arrays."""
        return {f"drawn/{name}": array for name, array in self.drawn.state().items()}

    def load(self, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        """Take over what ``arrays`` and ``values`` returned."""
        for name in _SCALARS:
            setattr(self, name, values[name])
        self.latest = dict(values["latest"])
        self.sums.load(values["sums"])
        self.drawn.load({name: arrays[f"drawn/{name}"] for name in self.drawn.state()})
