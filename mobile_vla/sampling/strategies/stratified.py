"""Draw every scenario by quota: p = q_s / n_s with q_s proportional to n_s^(1/tau), each scenario in every batch.

tau = 1 keeps the natural shares; a large tau makes them equal. A share below one window a batch is raised to one.
Within a scenario, windows are drawn in shuffled order without replacement, and all of them again when none is left.
Source: the training report, option 2; tempered shares as in multilingual training (Arivazhagan et al. 2019).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mobile_vla.errors import ConfigError
from mobile_vla.sampling.contract import Difference
from mobile_vla.sampling.parts.quotas import at_least_one_each, tempered_shares
from mobile_vla.sampling.parts.strata import StratumQueues
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class Stratified:
    """The sampler ``stratified``; its strata are the scenarios that have windows.

    Raises ``ConfigError`` if a batch is too small for one window of each scenario.
    """

    differs_in: Difference | None = "preference"

    def __init__(
        self, *, windows: WindowTable, batch_size: int, stream: Stream, tau: Annotated[float, Field(ge=1)]
    ) -> None:
        present, stratum, counts = np.unique(windows.scenario, return_inverse=True, return_counts=True)
        self.windows = windows
        self._names = [windows.scenario_names[s] for s in present]
        if batch_size < len(present):
            raise ConfigError(
                f"trainer.batch_size={batch_size} is too small: sampler=stratified puts every scenario in every batch, "
                f"and the train windows have {len(present)} scenarios. Use trainer.batch_size={len(present)} or more "
                "(in a mixture: for its part of the batch), or a grammar with fewer scenarios."
            )
        shares = at_least_one_each(tempered_shares(counts, tau=tau), batch_size=batch_size)
        self._queues = StratumQueues(
            stratum.astype(np.int16), names=self._names, shares=shares, batch_size=batch_size, stream=stream
        )

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``; scores are not used."""
        return Draw.unweighted(self._queues.draw(step))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``: each scenario's share, divided equally among its windows."""
        return self._queues.probabilities(ids)

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: there is only one stratum."""
        if len(self._names) == 1:
            return f"all windows belong to one scenario ({self._names[0]})"
        return None
