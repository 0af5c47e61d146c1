"""Find out whether a sampler goes by losses, by trying: a draw is a pure function, so nothing is lost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampler_report.rehearsal import FixedAnswers
from mobile_vla.sampling.contract import Sampler
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream

_NUM_STEPS_TRIED = 16


def goes_by_losses(sampler: Sampler, *, num_steps: int) -> bool:
    """Say whether some draw of ``num_steps`` looks at losses, or would be another or weigh otherwise with others.

    Steps all over the budget are tried: a warm-up goes by none yet, an open curriculum no more.
    """
    windows = sampler.windows
    random = Stream(0, "other_losses").at(0)
    # Of different size by scenario too, for samplers that see no more than that.
    scale = 10 ** random.uniform(0, 3, len(windows.scenario_names))
    other = random.exponential(size=len(windows)) * scale[windows.scenario]

    shown = [(_scores(windows, losses), FixedAnswers(losses)) for losses in (np.ones(len(windows)), other)]
    for step in np.linspace(0, num_steps - 1, min(num_steps, _NUM_STEPS_TRIED)).astype(int).tolist():
        equal, changed = (sampler.draw(step, scores, look) for scores, look in shown)
        # Looks count by themselves: what they say may be below a threshold here and above it in training.
        if shown[0][1].num_windows or not _are_equal(equal, changed):
            return True
    return False


def _scores(windows: WindowTable, losses: NDArray[np.float64]) -> Scores:
    scores = Scores(windows, smoothing=0)
    scores.update(0, np.arange(len(windows)), losses.astype(np.float32))
    return scores


def _are_equal(a: Draw, b: Draw) -> bool:
    return np.array_equal(a.ids, b.ids) and np.array_equal(a.weights, b.weights)
