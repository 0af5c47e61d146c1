"""Check that the masks a reader gives keep every padded target, whatever stands there, out of the policy's loss."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from made_episodes import made_episode, made_reader

from mobile_vla.policy.backbones.compact import CompactBackbone
from mobile_vla.policy.heads.regression import RegressionHead
from mobile_vla.policy.history.lstm import LstmHistory
from mobile_vla.policy.model import Model
from mobile_vla.schema import Batch


def small_model(loss: Any) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(
            backbone=partial(
                CompactBackbone, channels=[4, 4, 4], feature_dim=8, vocabulary_size=16, camera_towers="shared"
            ),
            head=partial(RegressionHead, history=partial(LstmHistory, hidden_dim=8, num_layers=1), loss=loss),
            state="none",
            state_dim=1,
            normalization="none",
            fwd_pred_next_n=5,
            num_actions=3,
            num_state=0,
            num_cameras=1,
        )


def padded_batch() -> Batch:
    """Return all windows of two short episodes: history and targets are missing at both ends."""
    reader = made_reader(
        [made_episode(i, num_frames=4) for i in range(2)], window_size=3, fwd_pred_next_n=5, padding="both"
    )
    batch = reader.gather(np.arange(len(reader.windows)))
    pixels = batch.images_BTVCYX[..., :1, :1].expand(-1, -1, -1, -1, 16, 16)
    return replace(batch, images_BTVCYX=pixels.contiguous())


def loss_and_gradient(model: Model, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    loss_B = model(batch).loss_B
    loss_B.sum().backward()
    return loss_B.detach(), [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("loss", ["mse", "huber", "l1"])
@pytest.mark.parametrize("value", [1.0, 1e15, np.nan, np.inf])
def test_padded_targets_change_neither_loss_nor_gradient(loss: str, value: float) -> None:
    model, batch = small_model(loss), padded_batch()
    assert not batch.mask_BTK.all()
    expected_loss, expected_gradient = loss_and_gradient(model, batch)
    changed = torch.where(batch.mask_BTK[..., None], batch.actions_BTKA, value)
    found_loss, found_gradient = loss_and_gradient(model, replace(batch, actions_BTKA=changed))
    assert torch.equal(found_loss, expected_loss)
    assert all(torch.equal(a, b) for a, b in zip(found_gradient, expected_gradient, strict=True))


def test_each_existing_target_changes_the_loss_of_its_window_alone() -> None:
    model, batch = small_model("mse"), padded_batch()
    actions = batch.actions_BTKA.clone().requires_grad_()
    model(replace(batch, actions_BTKA=actions)).loss_B[2].backward()
    reaches_BTK = (actions.grad != 0).all(-1)
    assert torch.equal(reaches_BTK[2], batch.mask_BTK[2])
    assert not reaches_BTK[[b for b in range(len(batch)) if b != 2]].any()
