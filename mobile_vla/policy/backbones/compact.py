"""A small convolutional network that encodes a frame; the instruction scales and shifts its features (FiLM)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from pydantic import PositiveInt
from torch import nn
from torch.nn import functional

from mobile_vla.policy.backbones.contract import Backbone

_GRID = 4
"""Rows and columns of the last feature map, for every image size."""


class CompactBackbone(Backbone):
    """An 8x8 stride-4 stem and two 3x3 stride-2 convolutions: about 1,000 windows/s of 8 frames at 64 px on two cores.

    The instruction is a bag of hashed words and word pairs, so it can be in any language. FiLM: Perez et al. 2018.
    """

    def __init__(
        self, *, channels: Sequence[PositiveInt], feature_dim: PositiveInt, vocabulary_size: PositiveInt
    ) -> None:
        super().__init__()
        first, second, third = channels
        self.feature_dim = feature_dim
        self.vocabulary_size = vocabulary_size
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, first, 8, stride=4, padding=2),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.project = nn.Linear(third * _GRID * _GRID, feature_dim)
        self.words = nn.EmbeddingBag(vocabulary_size, feature_dim, mode="mean")
        self.film = nn.Linear(feature_dim, 2 * feature_dim)
        self.mix = nn.Linear(feature_dim, feature_dim)

    def forward(self, images_BTCYX: torch.Tensor, history_BT: torch.Tensor, instruction: Sequence[str]) -> torch.Tensor:
        """See ``Backbone``; images may have any size."""
        # Scaled to -2 .. 2 in the same pass that converts bytes to floats: the time of this step is limited by memory,
        # not by arithmetic.
        images = torch.mul(images_BTCYX.flatten(0, 1), 4 / 255 if images_BTCYX.dtype == torch.uint8 else 4.0).sub_(2.0)
        maps = self.convolutions(images)
        if maps.shape[-2:] != (_GRID, _GRID):
            maps = functional.adaptive_avg_pool2d(maps, _GRID)
        features_BTD = functional.relu(self.project(maps.flatten(1))).unflatten(0, images_BTCYX.shape[:2])
        scale_BD, shift_BD = self.film(self._read(instruction)).chunk(2, dim=-1)
        features_BTD = features_BTD * (1 + scale_BD[:, None]) + shift_BD[:, None]
        return functional.relu(self.mix(features_BTD))

    @torch.compiler.disable()
    def _read(self, instruction: Sequence[str]) -> torch.Tensor:
        unique = sorted(set(instruction))  # a batch has few different instructions: each is embedded once
        tokens = [hashed_words(text, self.vocabulary_size) for text in unique]
        device = self.words.weight.device
        flat = torch.tensor([token for text in tokens for token in text], device=device)
        starts = torch.tensor([0, *(len(text) for text in tokens[:-1])], device=device).cumsum(0)
        rows = torch.tensor([unique.index(text) for text in instruction], device=device)
        return self.words(flat, starts)[rows]


@lru_cache(maxsize=4096)
def hashed_words(text: str, vocabulary_size: int) -> tuple[int, ...]:
    """Return the hashes, 0 .. vocabulary_size-1, of the words and neighbouring word pairs of ``text``."""
    words = ["<start>", *re.findall(r"\w+", text.lower())]
    pairs = [f"{a} {b}" for a, b in pairwise(words)]
    return tuple(zlib.crc32(token.encode()) % vocabulary_size for token in words + pairs)
