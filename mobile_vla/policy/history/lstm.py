"""History by a recurrent network: the state of an LSTM."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn


class LstmHistory(nn.Module):
    """The LSTM of RoboVLMs: the state is zero at the start of a window; missing frames enter as zero features."""

    def __init__(self, *, feature_dim: int, hidden_dim: PositiveInt, num_layers: PositiveInt) -> None:
        super().__init__()
        self.context_dim = hidden_dim
        self.lstm = nn.LSTM(feature_dim, hidden_dim, num_layers, batch_first=True)

    def forward(self, features_BTD: torch.Tensor, history_BT: torch.Tensor) -> torch.Tensor:
        """See ``History``."""
        context_BTH, _ = self.lstm(features_BTD * history_BT[:, :, None])
        return context_BTH
