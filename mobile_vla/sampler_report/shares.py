"""Compute the drawn share of each scenario, phase and episode, and its target share and natural share to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sampler_report.rehearsal import Rehearsal
from mobile_vla.schema import NUM_PHASES


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Shares of groups of windows: one entry for each group that has windows.

    ``natural`` is the group's share of the windows, ``target`` its share by the sampler's probabilities, ``drawn`` its
    share of the draws, ``in_loss`` its share of the loss weights. Each of them sums to 1 (``in_loss`` to 0 if all
    weights are 0).
    """

    names: tuple[str, ...]
    num_windows: NDArray[np.int64]
    natural: NDArray[np.float64]
    target: NDArray[np.float64]
    drawn: NDArray[np.float64]
    in_loss: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)


def shares_by_scenario(rehearsal: Rehearsal) -> Shares:
    """Return the shares of the scenarios, in the order of the window table."""
    return _shares(rehearsal, rehearsal.windows.scenario, rehearsal.windows.scenario_names)


def shares_by_phase(rehearsal: Rehearsal) -> Shares:
    """Return the shares of the bins of episode progress of the current frame; the bins are named in per cent."""
    edges = np.linspace(0, 100, NUM_PHASES + 1)
    names = [f"{low:.0f}-{high:.0f} %" for low, high in pairwise(edges)]
    return _shares(rehearsal, rehearsal.windows.phase, names)


def shares_by_episode(rehearsal: Rehearsal) -> Shares:
    """Return the shares of the episodes, in the order of the window table."""
    return _shares(rehearsal, rehearsal.windows.episode, rehearsal.windows.episode_names)


def _shares(rehearsal: Rehearsal, group: NDArray[np.integer], names: Sequence[str]) -> Shares:
    num_windows = np.bincount(group, minlength=len(names))
    present = np.flatnonzero(num_windows)

    def share(column: NDArray[np.int32] | NDArray[np.float64]) -> NDArray[np.float64]:
        summed = np.bincount(group, weights=column, minlength=len(names))[present]
        return summed / (column.sum(dtype=np.float64) or 1.0)

    return Shares(
        names=tuple(names[i] for i in present.tolist()),
        num_windows=num_windows[present],
        natural=num_windows[present] / num_windows.sum(),
        target=share(rehearsal.targets),
        drawn=share(rehearsal.visits),
        in_loss=share(rehearsal.loss_weights),
    )
