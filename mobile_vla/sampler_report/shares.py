"""Hold what was drawn of each scenario, phase or episode against what was meant to be and what there is."""

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
    """One entry a group that has windows; the shares each sum to 1, ``in_loss`` to 0 where all weights are 0.

    ``natural`` is the group's share of the windows, ``target`` what the sampler's probabilities give it, ``drawn`` its
    share of the draws and ``in_loss`` of their loss weights.
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
    """Return the shares of the bins of episode progress of the current frame, in per cent."""
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
