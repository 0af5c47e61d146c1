"""The network that reads the robot's state; its features are joined to those of the backbone, before the history."""

from __future__ import annotations

import torch
from torch import nn

from mobile_vla.policy.normalizer import Normalizer

_LIMIT = 10.0
"""The normalised state is clipped here. A joint that hardly moved in training has a tiny standard deviation, and would
give values of thousands on a robot whose joint does move; those would drown the images."""


class StateEncoder(nn.Module):
    """Linear, ReLU, linear, over the state of each frame alone; the normaliser's statistics are buffers.

    The state gets mean 0 and standard deviation 1 over the train frames whatever ``model.normalization`` is: that is a
    choice of targets. The two values of a binary signal become -1 and 1, as those of a binary action do. Two layers,
    because one cannot tell whether a gripper is open beyond a threshold.
    """

    def __init__(self, *, num_state: int, state_dim: int) -> None:
        super().__init__()
        self.normalizer = Normalizer("mean_std", num_actions=num_state)
        self.layers = nn.Sequential(nn.Linear(num_state, state_dim), nn.ReLU(), nn.Linear(state_dim, state_dim))

    @property
    def removed(self) -> torch.Tensor:
        """The state [S] that says nothing, in the units of the signals: all signals of it are normalised to 0.

        It is the mean over the train frames, and the middle between the two values of a binary signal.
        """
        return self.normalizer.shift_A

    def forward(self, state_BTS: torch.Tensor) -> torch.Tensor:
        """Return the features [B, T, D] of states [B, T, S] in the units of their signals."""
        return self.layers(self.normalizer.normalize(state_BTS).clamp(-_LIMIT, _LIMIT))
