"""Run an LSTM over the window and predict a chunk of actions at every frame."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn


class LstmHead(nn.Module):
    """RoboVLMs' recurrent policy head: the state starts at zero with the window."""

    def __init__(
        self,
        *,
        feature_dim: int,
        fwd_pred_next_n: int,
        num_actions: int,
        hidden_dim: PositiveInt,
        num_layers: PositiveInt,
    ) -> None:
        super().__init__()
        self._shape = (fwd_pred_next_n, num_actions)
        self.lstm = nn.LSTM(feature_dim, hidden_dim, num_layers, batch_first=True)
        self.out = nn.Linear(hidden_dim, fwd_pred_next_n * num_actions)

    def forward(self, features_BTD: torch.Tensor) -> torch.Tensor:
        """See ``Head``."""
        hidden_BTH, _ = self.lstm(features_BTD)
        return self.out(hidden_BTH).unflatten(-1, self._shape)
