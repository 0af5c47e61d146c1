"""Compute root mean squared errors over all existing targets at once.

The root is taken once, of the mean over all targets: a mean of the RMSEs of batches would depend on the batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.batches import Targets
from mobile_vla.evaluation.action_scale import previous_actions
from mobile_vla.schema import NUM_PHASES, WindowTable

_CELLS_PER_DIMENSION = 10
_RARE_SHARE = 0.25

_FEW = 3
"""Up to so many signals, as of a mobile base, one alone can make a change of action, and actions can be counted.

With the 26 joints of a humanoid, some joint moves at almost every frame, and almost every action is alone in its cell.
"""


_STEADY = 0.2
"""A spread of the speed below this share of its mean counts as this share."""


def masked_rmse(squared_NKA: NDArray[np.floating], mask_NK: NDArray[np.bool_]) -> float | None:
    """Return sqrt(sum of masked squared errors / count), or None if there is no target."""
    count = int(mask_NK.sum()) * squared_NKA.shape[-1]
    if count == 0:
        return None
    return float(np.sqrt(np.sum(squared_NKA, where=mask_NK[..., None], dtype=np.float64) / count))


def rmse_by_dimension(
    name: str, squared_NKA: NDArray[np.floating], mask_NK: NDArray[np.bool_], action_names: Sequence[str]
) -> dict[str, float]:
    """Return the RMSE ``name`` over all dimensions, and ``name/<dimension>`` of each, in physical units."""
    result = {name: masked_rmse(squared_NKA, mask_NK)}
    for index, dimension in enumerate(action_names):
        result[f"{name}/{dimension}"] = masked_rmse(squared_NKA[..., index : index + 1], mask_NK)
    return {key: value for key, value in result.items() if value is not None}


def rmse_by_part(
    name: str,
    squared_NKA: NDArray[np.floating],
    *,
    targets: Targets,
    windows: WindowTable,
    action_names: Sequence[str],
    critical_threshold: float,
    groups: Mapping[str, Sequence[int]] | None = None,
    rest_A: NDArray[np.float64] | None = None,
    columns: Sequence[int] | None = None,
) -> dict[str, float]:
    """Return the RMSE ``name`` over all targets, and over parts of them; a part without targets is left out.

    ``groups`` are the signals of one kind and unit by label, ``rest_A`` the values at rest (see ``ActionScale``).
    ``columns`` are the indices of the signals in ``squared_NKA``; None for all of the targets.

    The parts are ``/<dimension>``; ``/group_<label>`` if there is more than one group; ``/horizon_<k>`` (1 is the
    action of the current frame); ``/phase_<i>`` (the tenth of the episode in which the current frame is);
    ``/scenario_<name>``, and ``/scenario_mean`` over all scenarios; ``/task_<name>`` if there is more than one task;
    ``/critical``, the targets at a change of action (see ``critical_targets``); ``/rare`` and ``/common`` actions (see
    ``rare_targets``), if there are at most three signals.
    """
    mask_NK, num_actions = targets.mask_NK, targets.actions_NKA.shape[-1]
    result: dict[str, float | None] = dict(rmse_by_dimension(name, squared_NKA, mask_NK, action_names))
    columns = range(num_actions) if columns is None else columns
    groups = groups or {}
    for label, members in groups.items() if len(groups) > 1 else ():
        chosen = [place for place, index in enumerate(columns) if index in members]
        result[f"{name}/group_{label}"] = masked_rmse(squared_NKA[..., chosen], mask_NK)
    for k in range(mask_NK.shape[1]):
        result[f"{name}/horizon_{k + 1}"] = masked_rmse(squared_NKA[:, k : k + 1], mask_NK[:, k : k + 1])
    for phase in range(NUM_PHASES):
        rows = windows.phase == phase
        result[f"{name}/phase_{phase}"] = masked_rmse(squared_NKA[rows], mask_NK[rows])
    scenarios = []
    for index, scenario in enumerate(windows.scenario_names):
        rows = windows.scenario == index
        value = masked_rmse(squared_NKA[rows], mask_NK[rows])
        result[f"{name}/scenario_{scenario}"] = value
        scenarios += [value] if value is not None else []
    result[f"{name}/scenario_mean"] = float(np.mean(scenarios)) if scenarios else None
    for index, task in enumerate(windows.task_names if len(windows.task_names) > 1 else ()):
        rows = windows.task == index
        result[f"{name}/task_{task}"] = masked_rmse(squared_NKA[rows], mask_NK[rows])
    critical_NK = critical_targets(targets, threshold=critical_threshold, groups=list(groups.values()), rest_A=rest_A)
    result[f"{name}/critical"] = masked_rmse(squared_NKA, mask_NK & critical_NK)
    if num_actions > _FEW:
        return {key: value for key, value in result.items() if value is not None}
    rare_NK = rare_targets(targets)
    result[f"{name}/rare"] = masked_rmse(squared_NKA, rare_NK)
    result[f"{name}/common"] = masked_rmse(squared_NKA, mask_NK & ~rare_NK)
    return {key: value for key, value in result.items() if value is not None}


def critical_targets(
    targets: Targets,
    *,
    threshold: float,
    groups: Sequence[Sequence[int]] = (),
    rest_A: NDArray[np.float64] | None = None,
) -> NDArray[np.bool_]:
    """Return the mask [N, K] of the targets at a change of action: they differ from the action before or after them.

    Two actions differ if any group of signals changes much. If a group has at most three signals, that is if any of
    them changes by more than ``threshold`` standard deviations over ``targets``. The joints of an arm move together and
    smoothly: with more signals it is if the group moves clearly faster than usual (see ``_moves_fast``). ``groups``
    are indices; without any, each signal is a group.

    The neighbours are those in the episode, not in the chunk, so that a frame is critical in all windows or in none.
    Before the first frame, a signal is at rest (``rest_A``; None: 0 for all), and one without a value at rest, NaN,
    does not change there.
    """
    actions, mask_NK = targets.actions_NKA, targets.mask_NK
    previous_NA = previous_actions(targets, rest_A=rest_A, otherwise=actions[:, 0])
    before = np.concatenate([previous_NA[:, None], actions[:, :-1]], axis=1)
    after = np.concatenate([actions[:, 1:], targets.next_NA[:, None]], axis=1)
    has_after = np.pad(mask_NK[:, 1:], ((0, 0), (0, 1)), constant_values=True)  # the last has ``next_NA``
    spread_A = actions[mask_NK].std(0)

    is_start, is_end = (np.zeros(mask_NK.shape, np.bool_) for _ in range(2))
    for group in groups or [[index] for index in range(len(spread_A))]:
        members = list(group)
        since, until = (np.abs(change[..., members]) for change in (actions - before, after - actions))
        if len(members) > _FEW:
            starts, ends = _moves_fast(since, until, spread_A[members], mask_NK=mask_NK, threshold=threshold)
        else:
            starts, ends = ((change > threshold * spread_A[members]).any(-1) for change in (since, until))
        is_start, is_end = is_start | starts, is_end | ends
    return (is_start | (is_end & has_after)) & mask_NK


def _moves_fast(
    since_NKG: NDArray[np.floating],
    until_NKG: NDArray[np.floating],
    spread_G: NDArray[np.floating],
    *,
    mask_NK: NDArray[np.bool_],
    threshold: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where a group of G signals changes fast, since the action before [N, K] and until the action after [N, K].

    Its speed is the root mean square over its signals of their changes, each in units of its ``spread_G``. Fast is more
    than ``threshold`` standard deviations above the mean speed: at 30 Hz a change of half a spread between two frames,
    the limit for a keyboard's commands, does not occur (measured on a humanoid of 26 joints: half of the frames are
    below 0.04, and 99 % below 0.14). A steady motion, whose speed varies little, has no fast parts.
    """
    varies = spread_G > 0
    since_NK, until_NK = (
        np.sqrt(np.square(change[..., varies] / spread_G[varies]).sum(-1) / max(varies.sum(), 1))
        for change in (since_NKG, until_NKG)
    )
    speeds = since_NK[mask_NK]
    limit = speeds.mean() + threshold * max(speeds.std(), _STEADY * speeds.mean())
    return since_NK > limit, until_NK > limit


def rare_targets(targets: Targets) -> NDArray[np.bool_]:
    """Return the mask [N, K] of the rare actions: the least frequent ones that are at most a quarter of all targets.

    Actions are counted in cells: each dimension is divided into ten equal parts between its smallest and largest value.
    """
    actions, mask_NK = targets.actions_NKA, targets.mask_NK
    low_A, high_A = actions[mask_NK].min(0), actions[mask_NK].max(0)
    width_A = np.where(high_A > low_A, high_A - low_A, 1) / _CELLS_PER_DIMENSION
    cells_MA = np.minimum((actions[mask_NK] - low_A) // width_A, _CELLS_PER_DIMENSION - 1)
    _, cell_M, counts = np.unique(cells_MA, axis=0, return_inverse=True, return_counts=True)
    # For each cell: the number of targets in all cells that are at most as frequent as it. Cells of equal frequency are
    # therefore all rare or all common.
    rarest_first = np.sort(counts)
    num_up_to = np.cumsum(rarest_first)[np.searchsorted(rarest_first, counts, side="right") - 1]
    is_rare_NK = np.zeros_like(mask_NK)
    is_rare_NK[mask_NK] = (num_up_to <= _RARE_SHARE * len(cell_M))[cell_M.ravel()]
    return is_rare_NK
