"""The progress of a training run: its counters, sums and latest metrics, and the peak memory.

Together with the model, the optimiser, the loss scaler and the scores, this is the state that a resumed run needs.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mobile_vla.sampling.diagnostics import DrawStatistics

_SCALARS = (
    *("step", "evaluated_at", "logged_at", "learning_rate", "grad_norm", "skipped_steps", "windows_scored"),
    *("wall_s", "data_wait_s", "best_error"),
)
"""The attributes of ``Progress`` that a checkpoint stores as they are."""


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
        """Set all sums to zero."""
        self._sums.clear()

    def state(self) -> dict[str, list[float]]:
        """Return the sums and counts that a checkpoint stores."""
        return {name: list(values) for name, values in self._sums.items()}

    def load(self, state: dict[str, list[float]]) -> None:
        """Restore what ``state`` returned."""
        self._sums = {name: list(values) for name, values in state.items()}


@dataclass(kw_only=True)
class Progress:
    """The counters of a run: ``step`` is the number of finished steps.

    ``latest`` has the newest value of every metric that was logged. ``skipped_steps`` is the number of steps that
    changed no weight because their gradient overflowed; None without a loss scale, when no step can be skipped.
    ``windows_scored`` is the number of windows that a sampler measured before it drew. ``best_error`` is the lowest
    value so far of the error that decides.
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
    best_error: float | None = None
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
        """Add the time since the last call to ``wall_s``; the time between two processes of one run does not count."""
        now = time.perf_counter()
        self.wall_s += now - self._clock
        self._clock = now

    def row(self, evaluation: Mapping[str, float], *, batch_size: int) -> dict[str, float]:
        """Return the log row of this step: its counters, the training means so far, and ``evaluation``.

        ``train/windows_per_s`` is the mean over the steps since the last row; the time of evaluations does not count.
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

    def is_new_best(self, error: float) -> bool:
        """Record that this step was evaluated; return True if its ``error`` is the lowest so far."""
        self.evaluated_at = self.step
        if self.best_error is not None and not error < self.best_error:  # ``not <``: False for NaN as well
            return False
        self.best_error = error
        return True

    def values(self) -> dict[str, Any]:
        """Return the part of the state that a checkpoint stores as JSON."""
        self.tick()
        return {name: getattr(self, name) for name in _SCALARS} | {"latest": self.latest, "sums": self.sums.state()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the part of the state that a checkpoint stores as arrays."""
        return {f"drawn/{name}": array for name, array in self.drawn.state().items()}

    def load(self, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        """Restore what ``arrays`` and ``values`` returned."""
        for name in _SCALARS:
            setattr(self, name, values[name])
        self.latest = dict(values["latest"])
        self.sums.load(values["sums"])
        self.drawn.load({name: arrays[f"drawn/{name}"] for name in self.drawn.state()})


_GIB = 2**30


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of the peak memory; on the CPU it is that of the whole process and cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gib(device: torch.device) -> float:
    """Return the peak memory in GiB: of tensors on a GPU, otherwise the resident set of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / _GIB  # macOS reports bytes, Linux KiB
