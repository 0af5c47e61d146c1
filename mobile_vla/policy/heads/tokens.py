"""Action head by discretisation: each number of the chunk is classified into one of a few hundred bins."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from mobile_vla.policy.history.contract import HistoryFactory

_EMPTY_COUNT = 0.1
"""Pseudo-count that is added to the train actions of every bin: the logarithm of an empty bin is then finite."""


class TokensHead(nn.Module):
    """Cross-entropy over equal bins between the smallest and the largest train action of each dimension.

    Source: RT-1 (Brohan et al. 2022) and OpenVLA (Kim et al. 2024). Unlike there, all numbers of a chunk are predicted
    at once and independently, not one after the other. An action outside the train range counts as the outermost bin.
    The prediction is the centre of the most probable bin (``decode=argmax``) or the expected centre (``mean``). The
    logits start at the logarithm of the bin frequencies. V is the number of bins.
    """

    low_A: torch.Tensor
    width_A: torch.Tensor
    prior_AV: torch.Tensor

    def __init__(
        self,
        *,
        feature_dim: int,
        fwd_pred_next_n: int,
        num_actions: int,
        history: HistoryFactory,
        num_bins: Annotated[int, Field(ge=2)],
        decode: Literal["argmax", "mean"],
    ) -> None:
        super().__init__()
        self.history = history(feature_dim=feature_dim)
        self._shape = (fwd_pred_next_n, num_actions, num_bins)
        self._num_bins = num_bins
        self._takes_mean = decode == "mean"
        self.out = nn.Linear(self.history.context_dim, fwd_pred_next_n * num_actions * num_bins)
        self.register_buffer("low_A", torch.zeros(num_actions))
        self.register_buffer("width_A", torch.zeros(num_actions))
        self.register_buffer("prior_AV", torch.zeros(num_actions, num_bins))

    @property
    def last_layer(self) -> nn.Module:
        """See ``Head``."""
        return self.out

    def fit(self, actions_FA: torch.Tensor, *, rest_A: torch.Tensor) -> None:
        """Store the range of each dimension and the frequencies of its bins."""
        self.low_A.copy_(actions_FA.amin(0))
        self.width_A.copy_((actions_FA.amax(0) - actions_FA.amin(0)) / self._num_bins)
        count_AV = functional.one_hot(self.tokenize(actions_FA), self._num_bins).sum(0)
        self.prior_AV.copy_((count_AV + _EMPTY_COUNT).log())

    def tokenize(self, actions: torch.Tensor) -> torch.Tensor:
        """Return the bins, 0 .. num_bins-1, of normalised ``actions`` [..., A]; 0 in a dimension that is constant."""
        # Width infinity maps a constant dimension to bin 0 without a division by zero.
        bins = (actions - self.low_A) / torch.where(self.width_A > 0, self.width_A, torch.inf)
        return bins.clamp(0, self._num_bins - 1).long()

    def centers(self, bins: torch.Tensor) -> torch.Tensor:
        """Return the centres of ``bins`` [..., A]; fractional bins (an expectation) are allowed."""
        return self.low_A + (bins + 0.5) * self.width_A

    def loss(self, context_BTH: torch.Tensor, target_BTKA: torch.Tensor) -> torch.Tensor:
        """See ``Head``."""
        bins_BTKA = self.tokenize(target_BTKA)
        logits = self._logits(context_BTH).flatten(0, -2)
        error = functional.cross_entropy(logits, bins_BTKA.flatten(), reduction="none")
        return error.view_as(target_BTKA).mean(-1)

    def predict(self, context: torch.Tensor) -> torch.Tensor:
        """See ``Head``."""
        logits = self._logits(context)
        if not self._takes_mean:
            return self.centers(logits.argmax(-1))
        bins_V = torch.arange(self._num_bins, device=logits.device, dtype=logits.dtype)
        return self.centers(logits.softmax(-1) @ bins_V)

    def _logits(self, context: torch.Tensor) -> torch.Tensor:
        return self.out(context).unflatten(-1, self._shape) + self.prior_AV
