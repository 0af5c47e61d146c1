"""The interface of backbones, which encode the frames of a window, of all cameras, together with the instruction."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import nn


class Backbone(nn.Module):
    """A module that encodes frames and instruction to features [B, T, D], where D is ``feature_dim``.

    A subclass sets ``feature_dim`` and implements ``forward``. The defaults of the other attributes are those of a
    backbone that is trained from random weights, so that no other code has to check the type of a backbone.
    """

    feature_dim: int

    frames_apart: bool = True
    """Whether a frame's feature depends only on its images and the instruction: then each frame is encoded once."""

    image_side: int = 64
    """Rows and columns of the images where ``dataset.image_size`` is ``auto``; not those of a pretrained model."""

    weights: str | None = None
    """The place of its pretrained weights: a folder or a hub name; None if it has none."""

    base_hash: str | None = None
    """A digest of these pretrained weights."""

    learns: bool = True
    """Whether training changes any weight of the backbone."""

    cached_variants: int = 0
    """How many augmented variants of each episode the feature cache holds."""

    @property
    def unstored(self) -> frozenset[str]:
        """Entries of its state dict that ``model.safetensors`` leaves out: unchanged pretrained weights, an adapter."""
        return frozenset()

    @property
    def feature_key(self) -> str | None:
        """The key of its features in a cache; None if they change in training or depend on other frames."""
        return None

    def forward(
        self, images_BTVCYX: torch.Tensor, history_BT: torch.Tensor, instruction: tuple[str, ...]
    ) -> torch.Tensor:
        """Return features [B, T, D] of the images of V cameras (uint8, or float in [0, 1]) and B instructions.

        ``history_BT`` marks the frames that exist; the feature of one that does not is finite and otherwise undefined.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter to ``folder`` in peft's own format; do nothing if there is none."""

    def load_adapter(self, folder: Path) -> None:
        """Load the adapter from ``folder``; do nothing if this backbone has none."""


class BackboneFactory(Protocol):
    """A backbone whose options are set; only the number of cameras is still open."""

    def __call__(self, *, num_cameras: int) -> Backbone:
        """Return the backbone of frames of ``num_cameras`` images; ``ConfigError`` if it does not take so many."""
        ...
