"""Scale actions by the statistics of the training episodes; the statistics live in the policy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class Normalizer(nn.Module):
    """Maps physical actions [..., A] to zero mean and unit variance, and back. A constant dimension is only shifted."""

    mean_A: torch.Tensor
    std_A: torch.Tensor

    def __init__(self, *, mean_A: NDArray[np.float64], std_A: NDArray[np.float64]) -> None:
        super().__init__()
        self.register_buffer("mean_A", torch.as_tensor(mean_A, dtype=torch.float32))
        self.register_buffer("std_A", torch.as_tensor(np.where(std_A < 1e-6, 1.0, std_A), dtype=torch.float32))

    @classmethod
    def fit(cls, actions_FA: NDArray[np.float32]) -> Normalizer:
        """Take mean and standard deviation over the frames ``actions_FA`` of the training episodes."""
        actions = actions_FA.astype(np.float64)
        return cls(mean_A=actions.mean(0), std_A=actions.std(0))

    def normalize(self, actions: torch.Tensor) -> torch.Tensor:
        """Return physical ``actions`` [..., A] in units of standard deviations."""
        return (actions - self.mean_A) / self.std_A

    def denormalize(self, actions: torch.Tensor) -> torch.Tensor:
        """Return the inverse of ``normalize``: m/s, m/s, rad/s."""
        return actions * self.std_A + self.mean_A
