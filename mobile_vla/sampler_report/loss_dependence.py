"""Determine whether a sampler depends on losses, by trying it: ``draw`` is a pure function and has no side effects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampler_report.rehearsal import FixedMeasures
from mobile_vla.sampling.contract import Sampler, draw_windows
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream

_NUM_STEPS_TRIED = 16


def goes_by_losses(sampler: Sampler, *, num_steps: int) -> bool:
    """Return whether a draw in ``num_steps`` steps measures windows, or changes its windows or weights with the losses.

    Steps across the whole budget are tried: during a warm-up losses have no effect yet, and when a curriculum is
    complete they have none any more.
    """
    windows = sampler.windows
    random = Stream(0, "other_losses").at(0)
    # The losses also differ in scale between scenarios, for samplers that use only the mean loss of each scenario.
    scale = 10 ** random.uniform(0, 3, len(windows.scenario_names))
    other = random.exponential(size=len(windows)) * scale[windows.scenario]

    shown = [(_scores(windows, losses), FixedMeasures(losses)) for losses in (np.ones(len(windows)), other)]
    for step in np.linspace(0, num_steps - 1, min(num_steps, _NUM_STEPS_TRIED)).astype(int).tolist():
        equal, changed = (draw_windows(sampler, step, scores, measure) for scores, measure in shown)
        # A measurement counts even without a change: its result may stay below a threshold here, but not in training.
        if shown[0][1].num_windows or not _are_equal(equal, changed):
            return True
    return False


def _scores(windows: WindowTable, losses: NDArray[np.float64]) -> Scores:
    scores = Scores(windows, smoothing=0)
    scores.update(0, np.arange(len(windows)), losses.astype(np.float32))
    return scores


def _are_equal(a: Draw, b: Draw) -> bool:
    return np.array_equal(a.ids, b.ids) and np.array_equal(a.weights, b.weights)
