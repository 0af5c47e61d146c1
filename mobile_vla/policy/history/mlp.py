"""No history: each frame is encoded on its own."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn


class MlpHistory(nn.Module):
    """An MLP applied to the feature of each frame."""

    def __init__(self, *, feature_dim: int, hidden_dim: PositiveInt, num_layers: PositiveInt) -> None:
        super().__init__()
        self.context_dim = hidden_dim
        sizes = [feature_dim, *[hidden_dim] * (num_layers - 1)]
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(size, hidden_dim), nn.ReLU()) for size in sizes))

    def forward(self, features_BTD: torch.Tensor, history_BT: torch.Tensor) -> torch.Tensor:
        """See ``History``."""
        return self.layers(features_BTD)
