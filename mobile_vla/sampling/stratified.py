"""Draw every scenario by quota: p = q_s / n_s with q_s proportional to n_s^(1/tau), each scenario in every batch.

tau 1 keeps the natural shares, a large tau makes them equal; a share below one window a batch is raised to one. Inside
a scenario its windows come in shuffled order without replacement, refilled when empty. Source: the training report,
option 2; tempered shares as in multilingual training (Arivazhagan et al. 2019).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampling.passes import draw_from_passes, remember_last
from mobile_vla.sampling.quotas import QuotaSchedule, at_least_one_each, tempered_shares
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Stratified:
    """Quotas are met exactly over time and to within one window in every batch. ``tau`` must be at least 1."""

    def __init__(self, *, windows: WindowTable, batch_size: int, stream: Stream, tau: float) -> None:
        if not tau >= 1:
            raise ValueError(f"sampler.tau={tau}: expected 1 (natural shares) or more (towards equal shares)")
        counts = np.bincount(windows.scenario, minlength=len(windows.scenario_names))
        if batch_size < len(counts):
            raise ValueError(
                f"trainer.batch_size={batch_size} is smaller than the {len(counts)} scenarios that sampler=stratified puts in every "
                "batch: use a larger batch, or a grammar with fewer scenarios"
            )
        self.windows = windows
        self._shares = at_least_one_each(tempered_shares(counts, tau=tau), batch_size=batch_size)
        self._quotas = QuotaSchedule(self._shares, batch_size=batch_size)
        self._stream = stream
        self._members = [np.flatnonzero(windows.scenario == s) for s in range(len(counts))]
        self._queues = [remember_last(self._queue(s)) for s in range(len(counts))]

    def _queue(self, scenario: int):
        queue = self._stream.child(str(scenario))
        members = self._members[scenario]
        return lambda which: queue.at(which).permutation(members)

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``; scores are not looked at."""
        drawn, quota = self._quotas.at(step)
        ids = [
            draw_from_passes(queue, num_windows=len(members), first=int(first), count=int(count))
            for queue, members, first, count in zip(self._queues, self._members, drawn, quota, strict=True)
        ]
        return Draw.unweighted(np.concatenate(ids))

    def probabilities(self, scores: Scores) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: each scenario's share, equal among its windows."""
        counts = np.array([len(members) for members in self._members])
        return (self._shares / counts)[self.windows.scenario]

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: one stratum is no strata."""
        if len(self._members) == 1:
            return f"all windows belong to one scenario ({self.windows.scenario_names[0]})"
        return None
