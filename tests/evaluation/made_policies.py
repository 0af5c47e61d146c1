"""Make policies that act on one thing alone, and a reader of recorded noise to show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from made_episodes import h5_dataset
from torch import nn

from mobile_vla.data.batches import WindowReader
from mobile_vla.policy.backbones.contract import Backbone
from mobile_vla.policy.history.contract import History
from mobile_vla.policy.model import Model

K = 4
"""Predicted actions of the policies and the reader."""


def noise_reader(episodes: Path, padding: str) -> WindowReader:
    """Return the eleven train episodes of noise at 16 px among ``episodes``, in windows of 3 + K frames."""
    dataset = h5_dataset(
        episodes, "dataset.window_size=3", f"dataset.fwd_pred_next_n={K}", f"dataset.padding={padding}"
    )
    return dataset.open().readers["train"]


class Eye(Backbone):
    """A backbone of one function of (images [B, T, V, C, Y, X], texts)."""

    def __init__(self, see: Callable[[torch.Tensor, Sequence[str]], torch.Tensor], feature_dim: int) -> None:
        super().__init__()
        self.see, self.feature_dim = see, feature_dim

    def forward(
        self, images_BTVCYX: torch.Tensor, history_BT: torch.Tensor, instruction: Sequence[str]
    ) -> torch.Tensor:
        return self.see(images_BTVCYX, instruction)


class Arm(nn.Module):
    """A history whose contexts are the actions [B, T, K, A] that one function gives for features [B, T, D], in a row.

    Absent frames are zero features.
    """

    def __init__(self, act: Callable[[torch.Tensor], torch.Tensor], context_dim: int) -> None:
        super().__init__()
        self.act, self.context_dim = act, context_dim

    def forward(self, features_BTD: torch.Tensor, history_BT: torch.Tensor) -> torch.Tensor:
        return self.act(features_BTD * history_BT[:, :, None]).flatten(2)


class Hand(nn.Module):
    """A head that answers with what its history says."""

    def __init__(self, act: Callable[[torch.Tensor], torch.Tensor], num_actions: int) -> None:
        super().__init__()
        self.history: History = Arm(act, K * num_actions)
        self.num_actions = num_actions

    def fit(self, actions_FA: torch.Tensor, *, rest_A: torch.Tensor) -> None:
        pass

    def loss(self, context_BTH: torch.Tensor, target_BTKA: torch.Tensor) -> torch.Tensor:
        return (self.predict(context_BTH) - target_BTKA).square().mean(-1)

    def predict(self, context: torch.Tensor) -> torch.Tensor:
        return context.unflatten(-1, (K, self.num_actions))


def made_policy(
    see: Callable[[torch.Tensor, Sequence[str]], torch.Tensor],
    act: Callable[[torch.Tensor], torch.Tensor],
    *,
    feature_dim: int = 1,
    num_actions: int = 2,
) -> Model:
    """Return a policy of a backbone and a head that are plain functions; actions are not normalised."""
    return Model(
        backbone=lambda *, num_cameras: Eye(see, feature_dim),
        head=lambda *, feature_dim, fwd_pred_next_n, num_actions: Hand(act, num_actions),
        state="none",
        state_dim=1,
        normalization="none",
        fwd_pred_next_n=K,
        num_actions=num_actions,
        num_state=0,
        num_cameras=1,
    )


def sees_nothing(images_BTVCYX: torch.Tensor, instruction: Sequence[str]) -> torch.Tensor:
    """Return the same features [B, T, 1] whatever there is."""
    return torch.ones(*images_BTVCYX.shape[:2], 1)


def reads_side(images_BTVCYX: torch.Tensor, instruction: Sequence[str]) -> torch.Tensor:
    """Return 1 for left and -1 for right at every frame [B, T, 1]."""
    side_B = torch.tensor([1.0 if "left" in text else -1.0 for text in instruction])
    return side_B[:, None, None].expand(-1, images_BTVCYX.shape[1], 1)
