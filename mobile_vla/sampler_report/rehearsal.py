"""Simulate all draws of a run without training; the losses are those of another run, or all equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_vla.process.progress_bar import track
from mobile_vla.sampling.contract import Measure, Sampler, draw_windows
from mobile_vla.sampling.diagnostics import DrawStatistics
from mobile_vla.sampling.parts.pools import expected_losses
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import WindowTable

_NUM_TARGETS = 64
"""Number of steps whose probabilities are averaged to the target: enough to see a warm-up or a pacing, and fast."""

_MAP_SIZE = 96
"""Largest number of rows and of columns in the map of draws, so that a cell contains many draws."""


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """The result of ``num_steps`` simulated steps with ``batch_size`` windows each.

    Per window [N]: ``visits``, the number of draws; ``loss_weights``, the sum of the loss weights; ``targets``, the
    intended share of the draws (the sampler's ``probabilities``, mean over the steps); ``first_step``, the step of the
    first draw (-1: none). ``draw_map`` [R, C] counts draws by window (R equal parts of the table, in its order) and by
    step (C equal parts of the budget). ``metrics`` are those that a run logs as ``sampler/...``. ``windows_scored`` is
    the number of windows that the sampler measured before it drew.
    """

    windows: WindowTable
    batch_size: int
    num_steps: int
    visits: NDArray[np.int32]
    loss_weights: NDArray[np.float64]
    targets: NDArray[np.float64]
    first_step: NDArray[np.int32]
    draw_map: NDArray[np.int64]
    metrics: Mapping[str, float]
    windows_scored: int

    @property
    def num_draws(self) -> int:
        """Total number of draws, with repeats."""
        return self.num_steps * self.batch_size

    @property
    def is_weighted(self) -> bool:
        """True if the loss weights of the draws differ, or all are 0."""
        return self.metrics.get("sampler/weight_effective", 0.0) < 1 - 1e-6

    def steps_until(self, coverage: float) -> int | None:
        """Return the number of steps until this share of the windows was drawn; None if it never was."""
        first_steps = np.sort(self.first_step[self.first_step >= 0])
        # 1e-9 is subtracted because a product such as 0.9 * 10 can be just above the whole number in floating point.
        needed = max(int(np.ceil(coverage * len(self.windows) - 1e-9)), 1)
        return int(first_steps[needed - 1]) + 1 if needed <= len(first_steps) else None

    def coverage_by_step(self) -> NDArray[np.float64]:
        """Return the share of the windows drawn after 0, 1, .. ``num_steps`` steps [num_steps + 1]."""
        new = np.bincount(self.first_step[self.first_step >= 0] + 1, minlength=self.num_steps + 1)
        return new.cumsum() / len(self.windows)


def rehearse(sampler: Sampler, *, batch_size: int, num_steps: int, known: Scores | None) -> Rehearsal:
    """Return the draws of ``sampler`` in ``num_steps`` steps.

    ``known`` is a score table that does not change during the simulation. Measurements are answered from it, with the
    mean loss for windows that it has not seen. Without it, every loss and every measurement is 1.
    """
    windows = sampler.windows
    ids_N = np.arange(len(windows))
    counted = Scores(windows, smoothing=0)
    scores = counted if known is None else known
    measured = FixedMeasures(np.ones(len(ids_N)) if known is None else expected_losses(known, ids_N, pool=ids_N))
    statistics, first_step = DrawStatistics(windows), np.full(len(windows), -1, np.int32)
    num_rows, num_columns = min(len(windows), _MAP_SIZE), min(num_steps, _MAP_SIZE)
    draw_map = np.zeros((num_rows, num_columns), np.int64)
    loss_weights = np.zeros(len(windows))
    targets, target_steps = np.zeros(len(windows)), _middles(num_steps, min(num_steps, _NUM_TARGETS))
    for step in track(range(num_steps), description="drawing"):
        if step in target_steps:
            targets += sampler.probabilities(step, scores, ids_N) / len(target_steps)
        draw = draw_windows(sampler, step, scores, measured)
        statistics.add(step, draw, counted)
        first_step[draw.ids[first_step[draw.ids] < 0]] = step
        np.add.at(loss_weights, draw.ids, draw.weights)
        np.add.at(draw_map[:, step * num_columns // num_steps], draw.ids * num_rows // len(windows), 1)
        counted.update(step, draw.ids, np.ones(len(draw.ids), np.float32))
    return Rehearsal(
        windows=windows,
        batch_size=batch_size,
        num_steps=num_steps,
        visits=statistics.visits,
        loss_weights=loss_weights,
        targets=targets,
        first_step=first_step,
        draw_map=draw_map,
        metrics=statistics.metrics(targets) | (statistics.score_metrics(known) if known else {}),
        windows_scored=measured.num_windows,
    )


def _middles(num_steps: int, count: int) -> set[int]:
    """Return the middle steps of ``count`` equal parts of the budget."""
    return set(((np.arange(count) + 0.5) * num_steps / count).astype(int).tolist())


class FixedMeasures:
    """A ``ScoreWindows`` that returns the same ``losses`` [N] for every measure; ``num_windows`` counts the windows."""

    def __init__(self, losses: NDArray[np.float64]) -> None:
        self._losses = losses.astype(np.float32)
        self.num_windows = 0

    def __call__(self, ids: NDArray[np.int64], measure: Measure) -> NDArray[np.float32]:
        self.num_windows += len(ids)
        return self._losses[ids]
