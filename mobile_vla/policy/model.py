"""Predict the next actions at every frame of a window: backbone, head and normaliser in one module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import nn
from torch.nn import functional

from mobile_vla.policy.normalizer import Normalizer
from mobile_vla.schema import Batch


class Backbone(Protocol):
    """Encodes each frame together with the instruction."""

    feature_dim: int

    def __call__(self, images_BTCYX: torch.Tensor, instruction: tuple[str, ...]) -> torch.Tensor:
        """Return features [B, T, D] of images (uint8, or float in [0, 1]) and B instructions."""
        ...


class Head(Protocol):
    """Runs over the window and predicts a chunk of actions at every frame."""

    def __call__(self, features_BTD: torch.Tensor) -> torch.Tensor:
        """Return normalised actions [B, T, K, A]."""
        ...


class BackboneFactory(Protocol):
    """A backbone whose options are set."""

    def __call__(self) -> Backbone:
        """Return the backbone, a ``torch.nn.Module``."""
        ...


class HeadFactory(Protocol):
    """A head's options, its sizes still open."""

    def __call__(self, *, feature_dim: int, fwd_pred_next_n: int, num_actions: int) -> Head:
        """Return the head for these sizes, a ``torch.nn.Module``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one forward pass says: ``loss_B`` per window, and ``actions_BKA`` at the current frame in physical units.

    The current frame is the last that exists of a window's history.
    """

    loss_B: torch.Tensor
    actions_BKA: torch.Tensor


class Model(nn.Module):
    """A policy of any backbone and head. Its state dict holds all that inference needs, the normaliser included."""

    def __init__(
        self,
        *,
        backbone: BackboneFactory,
        head: HeadFactory,
        loss: Literal["mse", "huber"],
        normalizer: Normalizer,
        fwd_pred_next_n: int,
        num_actions: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone()
        self.head = head(
            feature_dim=self.backbone.feature_dim, fwd_pred_next_n=fwd_pred_next_n, num_actions=num_actions
        )
        self.normalizer = normalizer
        self._loss = {"mse": functional.mse_loss, "huber": functional.huber_loss}[loss]

    def forward(self, batch: Batch) -> Answer:
        """Return loss and prediction of a batch.

        The loss of a window is the mean over its existing targets (all T frames, K actions, A dimensions) in normalised
        units, and 0 for a window without any. Absent history frames reach the head as zero features.
        """
        predicted_BTKA = self._run_head(self.encode(batch.images_BTCYX, batch.instruction), batch.history_BT)
        mask_BTK1 = batch.mask_BTK[..., None]
        # Masked before the loss as well: a masked NaN would come back through its gradient, as 0 * NaN.
        target_BTKA = torch.where(mask_BTK1, self.normalizer.normalize(batch.actions_BTKA), 0.0)
        error_BTKA = self._loss(predicted_BTKA, target_BTKA, reduction="none") * mask_BTK1
        count_B = batch.mask_BTK.sum((1, 2)) * error_BTKA.shape[-1]
        return Answer(
            loss_B=error_BTKA.sum((1, 2, 3)) / count_B.clamp(min=1),
            actions_BKA=self.normalizer.denormalize(_at_last_frame(predicted_BTKA, batch.history_BT)),
        )

    def encode(self, images_BTCYX: torch.Tensor, instruction: tuple[str, ...]) -> torch.Tensor:
        """Return the features [B, T, D] of images (uint8, or float in [0, 1]) that B instructions go with."""
        return self.backbone(images_BTCYX, instruction)

    def decode(self, features_BTD: torch.Tensor, history_BT: torch.Tensor) -> torch.Tensor:
        """Return the actions [B, K, A] from the current frames on, in physical units."""
        predicted_BTKA = self._run_head(features_BTD, history_BT)
        return self.normalizer.denormalize(_at_last_frame(predicted_BTKA, history_BT))

    @torch.no_grad()
    def predict(self, batch: Batch) -> torch.Tensor:
        """Return the actions [B, K, A] from the current frames on, in physical units."""
        return self.decode(self.encode(batch.images_BTCYX, batch.instruction), batch.history_BT)

    def _run_head(self, features_BTD: torch.Tensor, history_BT: torch.Tensor) -> torch.Tensor:
        return self.head(features_BTD * history_BT[:, :, None])

    def num_parameters(self) -> tuple[int, int]:
        """Return (trainable, total) numbers of parameters."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(n for n, is_trainable in sizes if is_trainable), sum(n for n, _ in sizes)


def _at_last_frame(predicted_BTKA: torch.Tensor, history_BT: torch.Tensor) -> torch.Tensor:
    """Return [B, K, A] at each window's last existing frame; a recorded window ends there, a live history may not."""
    positions_T = torch.arange(history_BT.shape[1], device=history_BT.device)
    last_B = torch.where(history_BT, positions_T, 0).amax(1)
    return predicted_BTKA[torch.arange(len(last_B), device=last_B.device), last_B]
