"""Baseline predictors that see no images: a policy should have a lower error than all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.batches import Targets
from mobile_vla.evaluation.action_scale import ActionScale, previous_actions
from mobile_vla.evaluation.rmse import masked_rmse, rmse_by_dimension
from mobile_vla.metrics import ERROR, PREDICTORS, SCALED_ERROR, reference_name
from mobile_vla.schema import Episode, WindowTable


def baseline_metrics(
    *, train: Sequence[Episode], windows: WindowTable, targets: Targets, scale: ActionScale
) -> dict[str, float]:
    """Return ``baseline/<name>/rmse[/dimension]`` and ``/nrmse`` on ``targets``.

    The predictors are fitted to ``train`` alone:

    - ``mean``: the mean action of the train episodes.
    - ``hold_last``: the action before the current frame, repeated; a policy does not get this action. Before the first
      frame it is the value at rest, and the mean for a signal without one: never the target itself.
    - ``time_lookup``: the mean train action at this time step of an episode; ``mean`` beyond the longest episode.
    - ``scenario_time_lookup``: the same for each scenario; ``time_lookup`` where a scenario has no such time step.
    """
    by_time = TimeLookup(train)
    shape = targets.actions_NKA.shape
    predictions = {
        "mean": np.broadcast_to(by_time.mean, shape),
        "hold_last": np.broadcast_to(
            previous_actions(targets, rest_A=scale.rest_A, otherwise=by_time.mean)[:, None], shape
        ),
        "time_lookup": by_time(targets.frame_NK),
        "scenario_time_lookup": _by_scenario(train, windows, targets, by_time),
    }
    result = {}
    for name in PREDICTORS:
        squared_NKA = np.square(predictions[name] - targets.actions_NKA)
        result |= rmse_by_dimension(reference_name(name, ERROR), squared_NKA, targets.mask_NK, scale.names)
        scaled = masked_rmse(scale.scaled(squared_NKA), targets.mask_NK)
        result |= {} if scaled is None else {reference_name(name, SCALED_ERROR): scaled}
    return result


class TimeLookup:
    """A table of the mean action at each time step of ``episodes``; their overall mean beyond the longest episode."""

    def __init__(self, episodes: Iterable[Episode]) -> None:
        actions = [e.actions.astype(np.float64) for e in episodes]
        self.mean = np.concatenate(actions).mean(0)
        sums = np.zeros((max(map(len, actions)), len(self.mean)))
        counts = np.zeros(len(sums))
        for action in actions:
            sums[: len(action)] += action
            counts[: len(action)] += 1
        self.table = sums / counts[:, None]

    def __call__(self, frame: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean action [..., A] at the time steps ``frame`` [...]."""
        inside = frame < len(self.table)
        return np.where(inside[..., None], self.table[np.minimum(frame, len(self.table) - 1)], self.mean)


def _by_scenario(
    train: Sequence[Episode], windows: WindowTable, targets: Targets, by_time: TimeLookup
) -> NDArray[np.float64]:
    predicted = by_time(targets.frame_NK)
    for index, scenario in enumerate(windows.scenario_names):
        members = [e for e in train if e.scenario == scenario]
        rows = windows.scenario == index
        if members and rows.any():
            lookup = TimeLookup(members)
            known = (targets.frame_NK[rows] < len(lookup.table))[..., None]
            predicted[rows] = np.where(known, lookup(targets.frame_NK[rows]), predicted[rows])
    return predicted
