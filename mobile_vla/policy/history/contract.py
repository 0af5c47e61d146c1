"""Say what a history encoder is: it turns the features of a window's frames into one context a frame."""

from __future__ import annotations

from typing import Protocol

import torch


class History(Protocol):
    """Runs over the window. Causal: the context of a frame depends on the frames up to it, and on no absent one."""

    context_dim: int

    def __call__(self, features_BTD: torch.Tensor, history_BT: torch.Tensor) -> torch.Tensor:
        """Return contexts [B, T, H] of features of which ``history_BT`` says which frames exist.

        The context of a frame that does not exist is finite and otherwise undefined.
        """
        ...


class HistoryFactory(Protocol):
    """A history encoder's options, the size of its input still open."""

    def __call__(self, *, feature_dim: int) -> History:
        """Return the encoder of features of this size, a ``torch.nn.Module``."""
        ...
