"""Vary brightness, contrast, saturation and hue, to simulate another camera and other light."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from pydantic import NonNegativeFloat

from mobile_vla.schema import Batch
from mobile_vla.streams import Stream

_GRAY = np.array([0.299, 0.587, 0.114])
"""Luma weights of R, G, B (ITU-R BT.601)."""


@dataclass(frozen=True, kw_only=True)
class ColorJitter:
    """Random factors in [1 - x, 1 + x] (not below 0) for brightness, contrast and saturation; hue in [-x, x] turns.

    The factors are uniform. All four changes are one linear map of RGB for each window, except that the contrast scales
    about the mean luma of each frame of each camera.
    """

    takes_bytes: ClassVar[bool] = False

    brightness: NonNegativeFloat
    contrast: NonNegativeFloat
    saturation: NonNegativeFloat
    hue: NonNegativeFloat

    def __call__(self, batch: Batch, *, stream: Stream, step: int) -> Batch:
        """See ``Transform``."""
        random = stream.at(step)
        unit = random.uniform(-1, 1, (4, len(batch)))
        brightness, contrast, saturation = (
            np.maximum(1 + width * draw, 0)
            for width, draw in zip((self.brightness, self.contrast, self.saturation), unit, strict=False)
        )
        colour = _saturation_matrix(saturation) @ _hue_matrix(2 * np.pi * self.hue * unit[3])
        matrix_BCC = colour * brightness[:, None, None]
        images = batch.images_BTVCYX.flatten(1, 2)
        mixed = torch.einsum("bdc,btcyx->btdyx", _like(matrix_BCC, images), images)
        pivot = torch.einsum("c,btcyx->bt", _like(_GRAY, images), mixed) / (mixed.shape[-1] * mixed.shape[-2])
        factor = _like(contrast, images)[:, None, None, None, None]
        changed = mixed * factor + (1 - factor) * pivot[:, :, None, None, None]
        return replace(batch, images_BTVCYX=changed.unflatten(1, batch.images_BTVCYX.shape[1:3]))


def _saturation_matrix(factor_B: np.ndarray) -> np.ndarray:
    gray = np.tile(_GRAY, (3, 1))
    return factor_B[:, None, None] * np.eye(3) + (1 - factor_B)[:, None, None] * gray


def _hue_matrix(angle_B: np.ndarray) -> np.ndarray:
    """Return the rotations [B, 3, 3] of RGB about the gray axis (1, 1, 1) by ``angle_B`` rad (Rodrigues' formula)."""
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    cos, sin = np.cos(angle_B)[:, None, None], np.sin(angle_B)[:, None, None]
    return cos * np.eye(3) + sin * cross + (1 - cos) * np.outer(axis, axis)


def _like(array: np.ndarray, images: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(array, dtype=images.dtype, device=images.device)
