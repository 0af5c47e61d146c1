"""Action head by regression: one linear layer from the context to the actions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from mobile_vla.policy.history.contract import HistoryFactory

_LOSSES = {"mse": functional.mse_loss, "huber": functional.huber_loss, "l1": functional.l1_loss}


class RegressionHead(nn.Module):
    """A linear head that estimates the mean (``mse``), the median (``l1``) or a mix (``huber``, linear beyond 1)."""

    def __init__(
        self,
        *,
        feature_dim: int,
        fwd_pred_next_n: int,
        num_actions: int,
        history: HistoryFactory,
        loss: Literal["mse", "huber", "l1"],
    ) -> None:
        super().__init__()
        self.history = history(feature_dim=feature_dim)
        self._shape = (fwd_pred_next_n, num_actions)
        self._loss = _LOSSES[loss]
        self.out = nn.Linear(self.history.context_dim, fwd_pred_next_n * num_actions)

    @property
    def last_layer(self) -> nn.Module:
        """See ``Head``."""
        return self.out

    def fit(self, actions_FA: torch.Tensor, *, rest_A: torch.Tensor) -> None:
        """Do nothing: this head needs no statistics of the train actions."""

    def loss(self, context_BTH: torch.Tensor, target_BTKA: torch.Tensor) -> torch.Tensor:
        """See ``Head``."""
        return self._loss(self.predict(context_BTH), target_BTKA, reduction="none").mean(-1)

    def predict(self, context: torch.Tensor) -> torch.Tensor:
        """See ``Head``."""
        return self.out(context).unflatten(-1, self._shape)
