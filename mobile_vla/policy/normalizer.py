"""Action normalisation by statistics of the training episodes, which are stored with the model's weights."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Normalization = Literal["mean_std", "min_max", "quantile", "none"]

MIN_SPREAD = 1e-6
"""A smaller standard deviation counts as none: rounding leaves a tiny spread in a constant dimension."""

_QUANTILES = (0.01, 0.99)


class Normalizer(nn.Module):
    """A map from physical actions [..., A] to about unit size and back, with one shift and one scale per dimension.

    ``mean_std``: train actions get mean 0 and standard deviation 1. ``min_max``: their range becomes -1..1.
    ``quantile``: their 1st and 99th percentiles become -1 and 1; values beyond are not clipped, because the policy
    could then never predict them. ``none``: actions stay as they are. A dimension without spread is only shifted.
    ``std_A`` are the standard deviations of the train actions in physical units, 1 where they are constant. All
    statistics are buffers, so that a checkpoint restores them. Before ``fit`` the map is the identity.
    """

    shift_A: torch.Tensor
    scale_A: torch.Tensor
    std_A: torch.Tensor

    def __init__(self, kind: Normalization, *, num_actions: int) -> None:
        super().__init__()
        self._kind: Normalization = kind
        self.register_buffer("shift_A", torch.zeros(num_actions))
        self.register_buffer("scale_A", torch.ones(num_actions))
        self.register_buffer("std_A", torch.ones(num_actions))

    def fit(self, actions_FA: NDArray[np.float32]) -> None:
        """Compute the statistics of ``actions_FA``, the actions of all frames of the training episodes."""
        # In float64: float32 sums over many frames lose digits, and a constant dimension would seem to vary.
        actions = actions_FA.astype(np.float64)
        shift_A, scale_A = _shift_and_scale(actions, self._kind)
        self.shift_A.copy_(torch.from_numpy(shift_A))
        self.scale_A.copy_(torch.from_numpy(_without_zeros(scale_A)))
        self.std_A.copy_(torch.from_numpy(_without_zeros(actions.std(0))))

    def normalize(self, actions: torch.Tensor) -> torch.Tensor:
        """Return physical ``actions`` [..., A] in normalised units."""
        return (actions - self.shift_A) / self.scale_A

    def denormalize(self, actions: torch.Tensor) -> torch.Tensor:
        """Return normalised ``actions`` [..., A] in physical units (m/s, m/s, rad/s); the inverse of ``normalize``."""
        return actions * self.scale_A + self.shift_A


def _shift_and_scale(
    actions_FA: NDArray[np.float64], kind: Normalization
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if kind == "none":
        return np.zeros(actions_FA.shape[1]), np.ones(actions_FA.shape[1])
    if kind == "mean_std":
        return actions_FA.mean(0), actions_FA.std(0)
    low_A, high_A = np.quantile(actions_FA, (0, 1) if kind == "min_max" else _QUANTILES, axis=0)
    return (low_A + high_A) / 2, (high_A - low_A) / 2


def _without_zeros(spread_A: NDArray[np.float64]) -> NDArray[np.float64]:
    # Not == 0: dividing by what rounding leaves would amplify noise.
    return np.where(spread_A < MIN_SPREAD, 1.0, spread_A)
