"""Make small batches and policies without any files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import torch

from mobile_vla.policy.backbones.compact import CompactBackbone
from mobile_vla.policy.heads.regression import RegressionHead
from mobile_vla.policy.history.lstm import LstmHistory
from mobile_vla.policy.model import Model
from mobile_vla.schema import Batch

NUM_HISTORY, NUM_PREDICTED = 3, 4


def make_model(
    *,
    num_actions: int = 2,
    loss: Any = "mse",
    seed: int = 0,
    width: int = 8,
    num_state: int = 0,
    num_cameras: int = 1,
    camera_towers: Any = "shared",
) -> Model:
    """Return a tiny policy for actions and states of mean 1, 2, 3 and standard deviation 0.5, 1.0, 1.5."""
    torch.manual_seed(seed)
    scale_A, scale_S = (np.arange(1, number + 1, dtype=np.float32) for number in (num_actions, num_state))
    model = Model(
        backbone=partial(
            CompactBackbone,
            channels=[4, 4, 4],
            feature_dim=width,
            vocabulary_size=64,
            camera_towers=camera_towers,
        ),
        head=partial(RegressionHead, history=partial(LstmHistory, hidden_dim=width, num_layers=1), loss=loss),
        state="all" if num_state else "none",
        state_dim=width,
        normalization="mean_std",
        fwd_pred_next_n=NUM_PREDICTED,
        num_actions=num_actions,
        num_state=num_state,
        num_cameras=num_cameras,
    )
    model.fit(np.stack([0.5 * scale_A, 1.5 * scale_A]), np.stack([0.5 * scale_S, 1.5 * scale_S]))
    return model


def make_batch(
    *, num_windows: int = 4, num_actions: int = 2, seed: int = 0, num_state: int = 0, num_cameras: int = 1
) -> Batch:
    """Return random windows of 16 px, everything in them present."""
    random = torch.Generator().manual_seed(seed)
    shape = (num_windows, NUM_HISTORY)
    return Batch(
        images_BTVCYX=torch.randint(0, 256, (*shape, num_cameras, 3, 16, 16), generator=random, dtype=torch.uint8),
        history_BT=torch.ones(shape, dtype=torch.bool),
        state_BTS=torch.randn(*shape, num_state, generator=torch.Generator().manual_seed(seed + 1)),
        actions_BTKA=torch.randn(*shape, NUM_PREDICTED, num_actions, generator=random),
        mask_BTK=torch.ones(*shape, NUM_PREDICTED, dtype=torch.bool),
        instruction=tuple(f"go to the {'left' if i % 2 else 'right'} bottle" for i in range(num_windows)),
        scenario=("only",) * num_windows,
        window_ids=np.arange(num_windows),
    )


def select(batch: Batch, rows: Sequence[int]) -> Batch:
    """Return the windows ``rows`` of a batch."""
    chosen = {}
    for entry in fields(batch):
        value = getattr(batch, entry.name)
        if value is not None:
            chosen[entry.name] = tuple(value[i] for i in rows) if isinstance(value, tuple) else value[list(rows)]
    return Batch(**chosen)
