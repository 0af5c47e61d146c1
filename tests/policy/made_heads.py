"""Build the heads of the configs on a tiny backbone, and windows of a keyboard's actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from hydra.utils import instantiate
from made_batches import NUM_HISTORY, NUM_PREDICTED, make_batch
from tiny_runs import compose_config

from mobile_vla import config
from mobile_vla.policy.model import Model
from mobile_vla.schema import Batch

SPEED = 1.15
KEYS_FA = SPEED * np.array([[1, 0], [1, 0], [1, 0], [1, 1], [1, -1], [0, 0], [0, 1], [0, -1]], np.float32)
"""Train actions of a keyboard that never drives back: six of nine classes."""


@cache
def factory_of(head: str, *overrides: str) -> Callable[..., Model]:
    """Return the checked model of a head's config, its sizes open, as small as its options allow."""
    sizes = ["model.backbone.channels=[4,4,4]", "model.backbone.feature_dim=16", "model.backbone.vocabulary_size=64"]
    width = ["model.head.hidden_dim=64"] if head in ("flow", "diffusion") else []
    frames = ["model.head.history.hidden_dim=32", f"dataset.window_size={NUM_HISTORY}"]
    cfg = compose_config([f"model/head={head}", *sizes, *frames, *width, *overrides])
    config.check_config(cfg)
    return instantiate(cfg.model, _convert_="all", _partial_=True)


def build_model(
    head: str,
    *overrides: str,
    train_FA: np.ndarray = KEYS_FA,
    fit: bool = True,
    normalization: str = "mean_std",
    train_FS: np.ndarray | None = None,
    num_cameras: int = 1,
) -> Model:
    """Return a small model that has seen the actions ``train_FA`` and the states ``train_FS``."""
    torch.manual_seed(0)
    model = factory_of(head, *overrides)(
        fwd_pred_next_n=NUM_PREDICTED,
        num_actions=train_FA.shape[1],
        normalization=normalization,
        state="none" if train_FS is None else "all",
        num_state=0 if train_FS is None else train_FS.shape[1],
        num_cameras=num_cameras,
    )
    if fit:
        model.fit(train_FA, train_FS)
    return model


def key_batch(num_windows: int = 4, seed: int = 0) -> Batch:
    """Return windows whose targets are actions of the keyboard."""
    random = np.random.default_rng(seed)
    chosen = KEYS_FA[random.integers(0, len(KEYS_FA), (num_windows, NUM_HISTORY, NUM_PREDICTED))]
    return replace(make_batch(num_windows=num_windows, seed=seed), actions_BTKA=torch.from_numpy(chosen))
