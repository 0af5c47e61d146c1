"""Draw scenarios by weights that follow excess losses: w_s <- (1 - c) w_s exp(eta max(l_s - r_s, 0) / r) / Z + c / S.

l_s is the mean loss of the scenario's windows in the latest batch that contains any. r_s is the mean loss of all its
windows under a reference run, from the window score file that ``python -m mobile_vla losses RUN`` writes; r is the mean
of the r_s. Without the reference, the weights would follow the noisiest scenario. A window has p = w_s / n_s. The mean
of the weights over time is the mix that a new data set should have; it is logged as sampler/share of the scenarios.

Source: DoReMi (Xie et al. 2023, 2305.10429) and Re-Mix (Hejna et al. 2024, 2408.14037: eta 0.2, c 0.05). Both train a
small model this way to find the mix, and then train the large model on that mix. Two differences: their losses are
about 1, here the excess is divided by r to have that scale; and they compare each example with its own reference, so
that the value clipped at 0 is less noisy than the difference of means used here.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mobile_vla.sampling.contract import Difference
from mobile_vla.sampling.score_file import read_window_scores
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream


class GroupDro:
    """The sampler ``group_dro``: draws a scenario by its weight, then one of its windows uniformly, independently."""

    differs_in: Difference | None = "preference"

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
        self._members = np.argsort(stratum, kind="stable").astype(np.int32)  # sorted by scenario
        self._first = np.cumsum(self._counts) - self._counts
        self._reference = np.bincount(stratum, weights=reference) / self._counts
        self._unit = self._reference.mean() or 1.0  # 1 if the reference has no error at all: avoids a division by 0
        self._rewind([])

    def draw(self, step: int, scores: Scores) -> Draw:
        """See ``Sampler.draw``."""
        random, weights = self._stream.at(step), self.scenario_weights(scores)
        stratum = np.searchsorted(weights.cumsum(), random.random(self._batch_size), side="right")
        stratum = np.minimum(stratum, len(weights) - 1)  # the cumulative sum may end just below 1
        place = self._first[stratum] + random.integers(0, self._counts[stratum])
        return Draw.unweighted(self._members[place].astype(np.int64))

    def probabilities(self, step: int, scores: Scores, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """See ``Sampler.probabilities``."""
        return (self.scenario_weights(scores) / self._counts)[self._stratum[ids]]

    def scenario_weights(self, scores: Scores) -> NDArray[np.float64]:
        """Return the weights of the scenarios that have windows, after all updates that ``scores`` has logged.

        The weights are computed from the log, so ``draw`` stays a pure function and a resumed run gets the same
        weights. Entries that an earlier call has processed are not processed again, unless the log is a new one.
        """
        if scores.scenario_losses is not self._log:
            self._rewind(scores.scenario_losses)
        for losses in self._log[self._num_replayed :]:
            latest = losses[self._present]
            self._losses = np.where(np.isnan(latest), self._losses, latest)
            excess = np.maximum(self._losses - self._reference, 0) / self._unit
            # A scenario that no batch contained yet gets the mean excess of the others (0 if there are no others).
            is_known = ~np.isnan(excess)
            excess = np.where(is_known, excess, excess[is_known].mean() if is_known.any() else 0)
            # The largest excess is subtracted so that exp() cannot overflow; the normalisation below cancels it.
            # Weights of 0 are left out of the maximum, so their lag is limited to 0: it must not overflow either.
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
        """See ``Sampler.no_effect_reason``: there is only one scenario."""
        if len(self._present) == 1:
            return f"all windows belong to one scenario ({self.windows.scenario_names[self._present[0]]})"
        return None
