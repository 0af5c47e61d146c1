"""A small convolutional network that encodes a frame; the instruction scales and shifts its features (FiLM)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn
from torch.nn import functional

from mobile_vla.errors import ConfigError
from mobile_vla.policy.backbones.contract import Backbone

_GRID = 4
"""Rows and columns of the last feature map, for every image size."""


class CompactBackbone(Backbone):
    """An 8x8 stride-4 stem and two 3x3 stride-2 convolutions: about 1,000 windows/s of 8 frames at 64 px on two cores.

    The instruction is a bag of hashed words and word pairs, so it can be in any language. FiLM: Perez et al. 2018.
    The last feature maps of all cameras are projected together. With ``camera_towers`` ``shared`` all cameras have the
    same convolutions, with ``apart`` each its own. Raises ``ConfigError`` for ``apart`` with a single camera.
    """

    def __init__(
        self,
        *,
        channels: Sequence[PositiveInt],
        feature_dim: PositiveInt,
        vocabulary_size: PositiveInt,
        camera_towers: Literal["shared", "apart"],
        num_cameras: int,
    ) -> None:
        super().__init__()
        if camera_towers == "apart" and num_cameras == 1:
            raise ConfigError(
                "model.backbone.camera_towers=apart: has no effect, as the policy sees one camera; expected shared"
            )
        self.feature_dim = feature_dim
        self.vocabulary_size = vocabulary_size
        self.convolutions = _tower(channels)
        num_apart = num_cameras - 1 if camera_towers == "apart" else 0
        self.convolutions_apart = nn.ModuleList(_tower(channels) for _ in range(num_apart))
        self.project = nn.Linear(num_cameras * channels[-1] * _GRID * _GRID, feature_dim)
        self.words = nn.EmbeddingBag(vocabulary_size, feature_dim, mode="mean")
        self.film = nn.Linear(feature_dim, 2 * feature_dim)
        self.mix = nn.Linear(feature_dim, feature_dim)

    def forward(
        self, images_BTVCYX: torch.Tensor, history_BT: torch.Tensor, instruction: Sequence[str]
    ) -> torch.Tensor:
        """See ``Backbone``; images may have any size."""
        maps = torch.cat(self._maps(images_BTVCYX), dim=1)
        features_BTD = functional.relu(self.project(maps)).unflatten(0, images_BTVCYX.shape[:2])
        scale_BD, shift_BD = self.film(self._read(instruction)).chunk(2, dim=-1)
        features_BTD = features_BTD * (1 + scale_BD[:, None]) + shift_BD[:, None]
        return functional.relu(self.mix(features_BTD))

    def _maps(self, images_BTVCYX: torch.Tensor) -> list[torch.Tensor]:
        """Return the last feature maps of each camera, flat: V times [B * T, channels * _GRID * _GRID]."""
        if not self.convolutions_apart:
            return _through(self.convolutions, images_BTVCYX)
        towers = (self.convolutions, *self.convolutions_apart)
        parts = zip(towers, images_BTVCYX.split(1, dim=2), strict=True)
        return [maps for tower, images in parts for maps in _through(tower, images)]

    @torch.compiler.disable()
    def _read(self, instruction: Sequence[str]) -> torch.Tensor:
        unique = sorted(set(instruction))  # a batch has few different instructions: each is embedded once
        tokens = [hashed_words(text, self.vocabulary_size) for text in unique]
        device = self.words.weight.device
        flat = torch.tensor([token for text in tokens for token in text], device=device)
        starts = torch.tensor([0, *(len(text) for text in tokens[:-1])], device=device).cumsum(0)
        rows = torch.tensor([unique.index(text) for text in instruction], device=device)
        return self.words(flat, starts)[rows]


def _tower(channels: Sequence[int]) -> nn.Sequential:
    first, second, third = channels
    return nn.Sequential(
        nn.Conv2d(3, first, 8, stride=4, padding=2),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(second, third, 3, stride=2, padding=1),
        nn.ReLU(),
    )


def _through(tower: nn.Module, images_BTVCYX: torch.Tensor) -> list[torch.Tensor]:
    """Return the feature maps that ``tower`` gives for each of the V cameras, flat, from one pass over all of them."""
    num_cameras = images_BTVCYX.shape[2]
    # Camera by camera, as the images lie in memory: with the cameras of a frame together, they would be copied first.
    images = images_BTVCYX.movedim(2, 0).flatten(0, 2)
    # Scaled to -2 .. 2 in the same pass that converts bytes to floats: the time of this step is limited by memory,
    # not by arithmetic.
    maps = tower(torch.mul(images, 4 / 255 if images.dtype == torch.uint8 else 4.0).sub_(2.0))
    if maps.shape[-2:] != (_GRID, _GRID):
        maps = functional.adaptive_avg_pool2d(maps, _GRID)
    return list(maps.flatten(1).chunk(num_cameras))


@lru_cache(maxsize=4096)
def hashed_words(text: str, vocabulary_size: int) -> tuple[int, ...]:
    """Return the hashes, 0 .. vocabulary_size-1, of the words and neighbouring word pairs of ``text``."""
    words = ["<start>", *re.findall(r"\w+", text.lower())]
    pairs = [f"{a} {b}" for a, b in pairwise(words)]
    return tuple(zlib.crc32(token.encode()) % vocabulary_size for token in words + pairs)
