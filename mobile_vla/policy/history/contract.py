"""The interface of history encoders, which turn the features of a window's frames into one context per frame."""

from __future__ import annotations

from typing import Protocol

import torch


class History(Protocol):
    """A causal encoder of a window: the context of a frame depends on existing frames up to and including it."""

    context_dim: int

    def __call__(self, features_BTD: torch.Tensor, history_BT: torch.Tensor) -> torch.Tensor:
        """Return the contexts [B, T, H] of features [B, T, D]; ``history_BT`` is True for frames that exist.

        The context of a frame that does not exist is finite and otherwise undefined.
        """
        ...


class HistoryFactory(Protocol):
    """A history encoder with its options set; only the size of its input is still open."""

    def __call__(self, *, feature_dim: int) -> History:
        """Return the encoder of features of this size, a ``torch.nn.Module``."""
        ...
