"""Draw every scenario by quota: p = q_s / n_s with q_s proportional to n_s^(1/tau), each scenario in every batch.

tau 1 keeps the natural shares, a large tau makes them equal; a share below one window a batch is raised to one. Inside
a scenario its windows come in shuffled order without replacement, refilled when empty. Source: the training report,
option 2; tempered shares as in multilingual training (Arivazhagan et al. 2019).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mobile_vla.errors import ConfigError
from mobile_vla.sampling.passes import draw_from_passes, shuffled_passes
from mobile_vla.sampling.quotas import QuotaSchedule, at_least_one_each, tempered_shares
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Stratified:
    """Every batch holds B q_s windows of scenario s, rounded down or up so that the long-run share is exactly q_s.

    ``ConfigError`` when a batch is smaller than the number of scenarios.
    """

    def __init__(
        self, *, windows: WindowTable, batch_size: int, stream: Stream, tau: Annotated[float, Field(ge=1)]
    ) -> None:
        present, counts = np.unique(windows.scenario, return_counts=True)
        names = [windows.scenario_names[s] for s in present]
        if batch_size < len(names):
            raise ConfigError(
                f"trainer.batch_size={batch_size} is too small: sampler=stratified puts every scenario in every batch, "
                f"and the train windows have {len(names)} scenarios. Use trainer.batch_size={len(names)} or more, or a "
                "grammar with fewer scenarios."
            )
        self.windows = windows
        self._names = names
        self._shares = at_least_one_each(tempered_shares(counts, tau=tau), batch_size=batch_size)
        self._quotas = QuotaSchedule(self._shares, batch_size=batch_size)
        self._counts = counts
        members = [np.flatnonzero(windows.scenario == s) for s in present]
        self._queues = [shuffled_passes(ids, stream.child(name)) for ids, name in zip(members, names, strict=True)]

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``; scores are not looked at."""
        drawn, quota = (part.tolist() for part in self._quotas.at(step))
        ids = [
            draw_from_passes(queue, length=length, first=first, count=count)
            for queue, length, first, count in zip(self._queues, self._counts.tolist(), drawn, quota, strict=True)
        ]
        return Draw.unweighted(np.concatenate(ids))

    def probabilities(self, scores: Scores) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: each scenario's share, equal among its windows."""
        _, stratum = np.unique(self.windows.scenario, return_inverse=True)
        return (self._shares / self._counts)[stratum]

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: one stratum is no strata."""
        if len(self._names) == 1:
            return f"all windows belong to one scenario ({self._names[0]})"
        return None
