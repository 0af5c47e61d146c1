"""Draw scenarios by weights that follow excess losses: w_s <- (1 - c) w_s exp(eta max(l_s - r_s, 0) / r) / Z + c / S.

l_s is the mean loss of the scenario's windows in the latest batch that had one, r_s that of all its windows under a
reference run, from the window score file that ``python -m mobile_vla losses RUN`` writes, and r the mean of the r_s:
against the raw loss the weights would chase the noisiest scenario. A window has p = w_s / n_s. The mix that a new data
set should have is the mean of the weights over time: sampler/share of the scenarios. Source: DoReMi (Xie et al. 2023,
2305.10429) and Re-Mix (Hejna et al. 2024, 2408.14037: eta 0.2, c 0.05), which train a small model this way to find the
mix and the large one with it. Their losses are of the order of 1, hence the division by r; they hold each example
against its own reference, so that what is clipped at 0 is less noisy.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mobile_vla.sampling.contract import Look
from mobile_vla.sampling.score_file import read_window_scores
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class GroupDro:
    """Draws are independent, with replacement: a scenario by weight, then one of its windows uniformly."""

    def __init__(
        self,
        *,
        windows: WindowTable,
        batch_size: int,
        stream: Stream,
        file: str,
        eta: Annotated[float, Field(ge=0, allow_inf_nan=False)],
        smoothing: Annotated[float, Field(ge=0, le=1)],
    ) -> None:
        reference = read_window_scores(file, windows, option="sampler.file")
        self.windows = windows
        self._batch_size = batch_size
        self._stream = stream
        self._eta = eta
        self._smoothing = smoothing
        self._present, stratum, self._counts = np.unique(windows.scenario, return_inverse=True, return_counts=True)
        self._stratum = stratum.astype(np.int16)
        self._members = np.argsort(stratum, kind="stable").astype(np.int32)  # scenario after scenario
        self._first = np.cumsum(self._counts) - self._counts
        self._reference = np.bincount(stratum, weights=reference) / self._counts
        self._unit = self._reference.mean() or 1.0  # a reference without any error has no unit to offer
        self._rewind([])

    def draw(self, step: int, scores: Scores, look: Look) -> Draw:
        """See ``Sampler.draw``."""
        random, weights = self._stream.at(step), self.scenario_weights(scores)
        stratum = np.searchsorted(weights.cumsum(), random.random(self._batch_size), side="right")
        stratum = np.minimum(stratum, len(weights) - 1)
        place = self._first[stratum] + random.integers(0, self._counts[stratum])
        return Draw.unweighted(self._members[place].astype(np.int64))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``."""
        return (self.scenario_weights(scores) / self._counts)[self._stratum[ids]]

    def scenario_weights(self, scores: Scores) -> NDArray[np.float64]:
        """Return the weights of the scenarios that have windows, after all that ``scores`` have logged.

        The log is replayed from where the last call left it, or from its beginning when it is another one.
        """
        if scores.scenario_losses is not self._log:
            self._rewind(scores.scenario_losses)
        for losses in self._log[self._num_replayed :]:
            latest = losses[self._present]
            self._losses = np.where(np.isnan(latest), self._losses, latest)
            excess = np.maximum(self._losses - self._reference, 0) / self._unit
            # One that never had a window counts as an average one. Before any had, all are alike.
            is_known = ~np.isnan(excess)
            excess = np.where(is_known, excess, excess[is_known].mean() if is_known.any() else 0)
            # Less the largest, which the division takes out again: the power of a large loss would overflow.
            lag = np.minimum(excess - excess[self._weights > 0].max(), 0)
            grown = self._weights * np.exp(self._eta * lag)
            self._weights = (1 - self._smoothing) * grown / grown.sum() + self._smoothing / len(grown)
            self._num_replayed += 1
        return self._weights

    def _rewind(self, log: list[NDArray[np.float32]]) -> None:
        self._log = log
        self._num_replayed = 0
        self._losses = np.full(len(self._present), np.nan)
        self._weights = np.full(len(self._present), 1 / len(self._present))

    def no_effect_reason(self) -> str | None:
        """See ``Sampler.no_effect_reason``: one scenario leaves nothing to weigh."""
        if len(self._present) == 1:
            return f"all windows belong to one scenario ({self.windows.scenario_names[self._present[0]]})"
        return None
