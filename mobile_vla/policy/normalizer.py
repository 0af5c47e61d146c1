"""Normalise actions and state by statistics of the training episodes, which are stored with the model's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mobile_vla.errors import ConfigError
from mobile_vla.spec import Signal

Normalization = Literal["mean_std", "min_max", "quantile", "none"]

MIN_SPREAD = 1e-6
"""A smaller standard deviation counts as none: rounding leaves a tiny spread in a constant dimension."""

_QUANTILES = (0.01, 0.99)


class Normalizer(nn.Module):
    """A map from physical actions [..., A] to about unit size and back, with one shift and one scale per signal.

    ``mean_std``: train actions get mean 0 and standard deviation 1. ``min_max``: their range becomes -1..1.
    ``quantile``: their 1st and 99th percentiles become -1 and 1; values beyond are not clipped, because the policy
    could then never predict them. ``none``: actions stay as they are. A signal without spread is only shifted.

    The two values of a binary signal become -1 and 1, whatever the kind: the mean is no middle between them, and a
    gripper that is nearly always open would get a huge value for closed. ``low_A`` and ``high_A`` are these values,
    0 for other signals.

    ``std_A`` are the standard deviations of the train actions in physical units, 1 where they are constant. All
    statistics are buffers, so that a checkpoint restores them. Before ``fit`` the map is the identity.
    """

    shift_A: torch.Tensor
    scale_A: torch.Tensor
    std_A: torch.Tensor
    is_binary_A: torch.Tensor
    low_A: torch.Tensor
    high_A: torch.Tensor

    def __init__(self, kind: Normalization, *, num_actions: int) -> None:
        super().__init__()
        self._kind: Normalization = kind
        self.register_buffer("shift_A", torch.zeros(num_actions))
        self.register_buffer("scale_A", torch.ones(num_actions))
        self.register_buffer("std_A", torch.ones(num_actions))
        self.register_buffer("is_binary_A", torch.zeros(num_actions, dtype=torch.bool))
        self.register_buffer("low_A", torch.zeros(num_actions))
        self.register_buffer("high_A", torch.zeros(num_actions))

    def fit(self, actions_FA: NDArray[np.float32], *, binary: Sequence[int] = ()) -> None:
        """Compute the statistics of ``actions_FA``, the actions of all frames of the training episodes.

        ``binary`` are the indices of the binary signals, which have at most two values.
        """
        # In float64: float32 sums over many frames lose digits, and a constant signal would seem to vary.
        actions = actions_FA.astype(np.float64)
        shift_A, scale_A = _shift_and_scale(actions, self._kind)
        is_binary_A = np.isin(np.arange(actions.shape[1]), binary)
        low_A, high_A = (np.where(is_binary_A, ends_A, 0.0) for ends_A in (actions.min(0), actions.max(0)))
        self.is_binary_A.copy_(torch.from_numpy(is_binary_A))
        self.low_A.copy_(torch.from_numpy(low_A))
        self.high_A.copy_(torch.from_numpy(high_A))
        shift_A = np.where(is_binary_A, (low_A + high_A) / 2, shift_A)
        scale_A = np.where(is_binary_A, (high_A - low_A) / 2, scale_A)
        self.shift_A.copy_(torch.from_numpy(shift_A))
        self.scale_A.copy_(torch.from_numpy(_without_zeros(scale_A)))
        self.std_A.copy_(torch.from_numpy(_without_zeros(actions.std(0))))

    def normalize(self, actions: torch.Tensor) -> torch.Tensor:
        """Return physical ``actions`` [..., A] in normalised units."""
        return (actions - self.shift_A) / self.scale_A

    def denormalize(self, actions: torch.Tensor) -> torch.Tensor:
        """Return normalised ``actions`` [..., A] in physical units; the inverse of ``normalize``."""
        return actions * self.scale_A + self.shift_A

    def actions_of(self, predicted: torch.Tensor) -> torch.Tensor:
        """Return normalised predictions [..., A] as actions in physical units: of a binary signal the nearer value.

        A prediction in the middle between both values counts as the higher one.
        """
        actions = self.denormalize(predicted)
        return torch.where(self.is_binary_A, torch.where(predicted >= 0, self.high_A, self.low_A), actions)


def binary_of(signals: Sequence[Signal], actions_FA: NDArray[np.float32]) -> list[int]:
    """Return the indices of the binary signals; raise ``ConfigError`` if one has more than two values in the actions.

    Only the kind in the spec counts: a signal that happens to have two values, such as a keyboard's command, is not
    binary for that.
    """
    columns = [index for index, signal in enumerate(signals) if signal.kind == "binary"]
    for index in columns:
        values = np.unique(actions_FA[:, index])
        if len(values) > 2:
            name, shown = signals[index].name, ", ".join(f"{value:.4g}" for value in values[:4])
            raise ConfigError(
                f"dataset.signals: {name} is said to be binary, but the train episodes have {len(values)} values of it "
                f"({shown}, ...). Give another kind, such as dataset.signals={{{name}: {{kind: position}}}}, or record "
                "two values."
            )
    return columns


def binary_state_of(signals: Sequence[Signal], state_FS: NDArray[np.float32]) -> list[int]:
    """Return the indices of the binary signals of the state that have at most two values in ``state_FS``.

    One of more values is treated like any other, and is no error: ``dataset.signals`` describes an action and a state
    signal of the same name together, and a gripper that is commanded open or closed may be measured by its width.
    """
    columns = [index for index, signal in enumerate(signals) if signal.kind == "binary"]
    return [index for index in columns if len(np.unique(state_FS[:, index])) <= 2]


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
