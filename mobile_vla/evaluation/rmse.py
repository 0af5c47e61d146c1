"""Compute root mean squared errors over all existing targets at once.

The root is taken once, of the mean over all targets: a mean of the RMSEs of batches would depend on the batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.batches import Targets
from mobile_vla.schema import NUM_PHASES, WindowTable

_CELLS_PER_DIMENSION = 10
_RARE_SHARE = 0.25


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
) -> dict[str, float]:
    """Return the RMSE ``name`` over all targets, and over parts of them; a part without targets is left out.

    The parts are ``/<dimension>``; ``/horizon_<k>`` (1 is the action of the current frame); ``/phase_<i>`` (the tenth
    of the episode in which the current frame is); ``/scenario_<name>``, and ``/scenario_mean`` over all scenarios;
    ``/task_<name>`` if there is more than one task; ``/critical``, the targets at a change of action (see
    ``critical_targets``); ``/rare`` and ``/common`` actions (see ``rare_targets``).
    """
    mask_NK = targets.mask_NK
    result: dict[str, float | None] = dict(rmse_by_dimension(name, squared_NKA, mask_NK, action_names))
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
    critical_NK = mask_NK & critical_targets(targets, threshold=critical_threshold)
    result[f"{name}/critical"] = masked_rmse(squared_NKA, critical_NK)
    rare_NK = rare_targets(targets)
    result[f"{name}/rare"] = masked_rmse(squared_NKA, rare_NK)
    result[f"{name}/common"] = masked_rmse(squared_NKA, mask_NK & ~rare_NK)
    return {key: value for key, value in result.items() if value is not None}


def critical_targets(targets: Targets, *, threshold: float) -> NDArray[np.bool_]:
    """Return the mask [N, K] of the targets at a change of action: they differ from the action before or after them.

    Two actions differ if any dimension changes by more than ``threshold`` times its standard deviation over
    ``targets``. The neighbours are those in the episode, not in the chunk, so that a frame is critical in all windows
    or in none.
    """
    actions, mask_NK = targets.actions_NKA, targets.mask_NK
    step_A = threshold * actions[mask_NK].std(0)
    before = np.concatenate([targets.previous_NA[:, None], actions[:, :-1]], axis=1)
    after = np.concatenate([actions[:, 1:], targets.next_NA[:, None]], axis=1)
    has_after = np.pad(mask_NK[:, 1:], ((0, 0), (0, 1)), constant_values=True)  # the last has ``next_NA``
    is_start = (np.abs(actions - before) > step_A).any(-1)
    is_end = (np.abs(after - actions) > step_A).any(-1) & has_after
    return (is_start | is_end) & mask_NK


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
