"""Draw every phase of an episode equally often: p = 1 / (K n_k) for the n_k windows of phase k.

A phase is one of ``num_phases`` equal bins of the current frame's progress through its episode; K is the number of
phases that have windows. Without padding (dataset.padding=none) the first and the last phase have none. Within a phase,
windows are drawn in shuffled order without replacement. Quotas as in ``stratified``. The idea comes from phase-balanced
replay of demonstrations, where approach and grasp are few frames among many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from mobile_vla.sampling.contract import Difference
from mobile_vla.sampling.parts.strata import StratumQueues
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class PhaseBalanced:
    """The sampler ``phase_balanced``.

    If a batch is too small for all phases, they take turns, so that their shares are exact over many steps.
    """

    differs_in: Difference | None = "preference"

    def __init__(self, *, windows: WindowTable, batch_size: int, stream: Stream, num_phases: PositiveInt) -> None:
        phase = np.minimum(windows.progress.astype(np.int64) * num_phases // 1000, num_phases - 1)
        present, stratum = np.unique(phase, return_inverse=True)
        self.windows = windows
        self._num_phases = len(present)
        self._queues = StratumQueues(
            stratum.astype(np.int16),
            names=[f"phase_{k}" for k in present],
            shares=np.full(len(present), 1 / len(present)),
            batch_size=batch_size,
            stream=stream,
        )

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``; scores are not used."""
        return Draw.unweighted(self._queues.draw(step))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: equal for all phases, and equal for the windows of a phase."""
        return self._queues.probabilities(ids)

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: there is only one phase."""
        return "all windows are in one phase of their episode" if self._num_phases == 1 else None
