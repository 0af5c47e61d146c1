"""History by causal self-attention: each frame attends to the frames before it."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import nn

from mobile_vla.errors import ConfigError

_MAX_LAYERS = 100
"""Far more than any policy head uses; a stored description may ask for so many that building them never ends."""


class GptHistory(nn.Module):
    """A causal pre-norm transformer over the window, with learned positions. Source: Radford et al. 2019 (GPT-2).

    Missing frames are masked out of the attention. ``window_size`` is the longest window that it accepts.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        window_size: PositiveInt,
        hidden_dim: PositiveInt,
        num_layers: PositiveInt,
        num_heads: PositiveInt,
        dropout: Annotated[float, Field(ge=0, lt=1)],
    ) -> None:
        super().__init__()
        if hidden_dim % num_heads:
            raise ConfigError(
                f"model.head.history.hidden_dim={hidden_dim}: expected a multiple of num_heads={num_heads}"
            )
        if num_layers > _MAX_LAYERS:
            raise ConfigError(f"model.head.history.num_layers={num_layers}: expected at most {_MAX_LAYERS}")
        self.context_dim = hidden_dim
        self._num_heads = num_heads
        self.enter = nn.Linear(feature_dim, hidden_dim)
        self.positions_TH = nn.Parameter(0.02 * torch.randn(window_size, hidden_dim))
        layer = nn.TransformerEncoderLayer(
            hidden_dim,
            num_heads,
            dim_feedforward=4 * hidden_dim,
            dropout=dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(
            layer, num_layers, norm=nn.LayerNorm(hidden_dim), enable_nested_tensor=False
        )

    def forward(self, features_BTD: torch.Tensor, history_BT: torch.Tensor) -> torch.Tensor:
        """See ``History``."""
        tokens_BTH = self.enter(features_BTD) + self.positions_TH[: features_BTD.shape[1]]
        # torch wants one mask per head, with the heads of a window next to each other.
        return self.layers(tokens_BTH, mask=_hidden(history_BT).repeat_interleave(self._num_heads, 0))


def _hidden(history_BT: torch.Tensor) -> torch.Tensor:
    """Return [B, T, T], True where attention is masked: at later frames, and at missing frames other than itself.

    Every frame may attend to itself: softmax over a fully masked row would be NaN.
    """
    is_past_TT = torch.ones(history_BT.shape[1:] * 2, dtype=torch.bool, device=history_BT.device).tril()
    is_self_TT = torch.eye(history_BT.shape[1], dtype=torch.bool, device=history_BT.device)
    return ~((is_past_TT & history_BT[:, None]) | is_self_TT)
