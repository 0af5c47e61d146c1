"""Make a window table, actions and losses of any size: what a sampler sees of a data set, and no data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.batches import WindowReader
from mobile_vla.sampling.contract import Measure
from mobile_vla.schema import WindowTable

WINDOW_SIZE, FWD_PRED_NEXT_N = 8, 10
NUM_SCENARIOS, NUM_ACTIONS = 12, 2
_NOISE = 0.2
"""Spread of the logarithm of a window's loss from visit to visit."""


@dataclass(frozen=True, kw_only=True)
class SyntheticData:
    """A table with its actions [N, A] (a random walk in each row's order) and each window's typical loss [N]."""

    windows: WindowTable
    actions_NA: NDArray[np.float32]
    loss: NDArray[np.float32]

    def reader(self) -> WindowReader:
        """Return this as what samplers are built from, which is the table and ``chunks`` alone."""
        return cast(WindowReader, self)

    def chunks(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """See ``ActionChunks``."""
        ahead = np.arange(FWD_PRED_NEXT_N)
        mask_BK = ahead < FWD_PRED_NEXT_N - self.windows.pad_end[ids, None]
        rows_BK = np.minimum(ids[:, None] + ahead, len(self.windows) - 1)
        return self.actions_NA[rows_BK] * mask_BK[..., None], mask_BK

    def look(self, ids: NDArray[np.int64], measure: Measure) -> NDArray[np.float32]:
        """Answer from the typical losses at once: forward passes are the model's cost and not the sampler's."""
        return self.loss[ids]

    def losses_at(self, ids: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.float32]:
        """Return what a training step might say of the windows ``ids``."""
        noise = np.exp(_NOISE * random.standard_normal(len(ids), dtype=np.float32))
        return self.loss[ids] * noise


def make_windows(num_windows: int, random: np.random.Generator) -> WindowTable:
    """Return windows at every frame (``padding: both``) of episodes of 18 to 60 frames; few scenarios have most."""
    lengths = random.integers(18, 61, num_windows // 18 + 1, dtype=np.int32)
    lengths = lengths[: np.searchsorted(lengths.cumsum(), num_windows) + 1]
    episode = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[:num_windows]
    first_row = np.cumsum(lengths) - lengths
    frame = np.arange(num_windows, dtype=np.int32) - first_row[episode].astype(np.int32)
    length = lengths[episode]
    scenario = (random.zipf(1.7, len(lengths)).clip(max=NUM_SCENARIOS) - 1).astype(np.int16)
    return WindowTable(
        episode=episode,
        start=frame - np.int32(WINDOW_SIZE - 1),
        progress=(1000 * frame // (length - 1)).astype(np.int16),
        scenario=scenario[episode],
        task=np.zeros(num_windows, np.int16),
        pad_start=np.maximum(WINDOW_SIZE - 1 - frame, 0).astype(np.int16),
        pad_end=np.maximum(frame + FWD_PRED_NEXT_N - length, 0).astype(np.int16),
        episode_names=tuple(f"episode_{i:07d}" for i in range(len(lengths))),
        scenario_names=tuple(f"scenario_{i}" for i in range(NUM_SCENARIOS)),
        task_names=("drive",),
        window_size=WINDOW_SIZE,
    )


def make_data(windows: WindowTable, random: np.random.Generator) -> SyntheticData:
    """Return log-normal losses (sigma 1) and smooth actions for ``windows``."""
    steps_NA = random.standard_normal((len(windows), NUM_ACTIONS), dtype=np.float32)
    return SyntheticData(
        windows=windows,
        actions_NA=np.sin(np.cumsum(0.1 * steps_NA, axis=0, dtype=np.float64)).astype(np.float32),
        loss=np.exp(random.standard_normal(len(windows), dtype=np.float32)),
    )
