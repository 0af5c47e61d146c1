"""Find commands that the data make implausible: a frame far beyond all others, a column that hardly moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_vla.schema import ACTION_NAMES, ACTION_UNITS, Episode

_FAR = 10.0
"""A command above so many times the 99th percentile of its column is no command that was meant."""

_HARDLY = 0.01
"""A column whose spread is below this share of the largest column's hardly moves: joysticks rest at less noise."""

_MAX_NAMED = 3
"""Frames and files that one warning names."""


def implausible_actions(episodes: Sequence[Episode], action_names: Sequence[str]) -> list[str]:
    """Return one warning for each predicted column that holds commands far beyond its 99th percentile.

    Each names the files and frames, and what helps.
    """
    found = []
    for name in action_names:
        columns = [np.abs(e.actions[:, ACTION_NAMES.index(name)]) for e in episodes]
        limit = _FAR * _usual_size(columns)
        far = [(e, int(frame)) for e, column in zip(episodes, columns, strict=True) for frame in _above(column, limit)]
        if far:
            found.append(_warning(name, far, usual=limit / _FAR))
    return found


def unmoving_columns(episodes: Sequence[Episode], action_names: Sequence[str]) -> list[str]:
    """Return one warning for each recorded column that is predicted though it hardly moves, or moves and is left out.

    Columns are compared by the spread between their 1st and 99th percentile and by their whole spread: a column of rare
    key presses moves, and one frame that is far out does not make its neighbours constant.
    """
    num_columns = min(e.actions.shape[1] for e in episodes)
    values_FA = np.concatenate([e.actions[:, :num_columns] for e in episodes])
    spread_A = np.ptp(values_FA, axis=0)
    middle_A = np.subtract(*np.quantile(values_FA, [0.99, 0.01], axis=0))
    largest = float(middle_A.max()) or float(spread_A.max())
    found = []
    for name, spread in zip(ACTION_NAMES, spread_A.tolist(), strict=False):
        if spread > 0 and name not in action_names:
            found.append(f"{name} is recorded and changes, but dataset.actions leaves it out")
        elif spread == 0 and name in action_names:
            found.append(f"{name} never changes: predicting it is no task, yet it lowers the RMSE over all dimensions")
        elif spread < _HARDLY * largest and name in action_names:
            found.append(
                f"{name} hardly changes (by {spread:.2g} {ACTION_UNITS[name]}, another by {largest:.2g}): predicting "
                "it is no task, yet it lowers the RMSE over all dimensions"
            )
    return found


def _usual_size(columns: Sequence[NDArray[np.float32]]) -> float:
    """Return the 99th percentile of all sizes; of those other than 0 where most are 0.

    A key that is pressed in less than one frame of a hundred would otherwise make the percentile 0, and each press an
    alarm. Elsewhere the largest of each episode is left out: one bad frame in every short episode is more than a
    hundredth of all, and would hide itself.
    """
    sizes_F = np.concatenate(columns)
    moving_F = sizes_F[sizes_F > 0]
    if len(moving_F) == 0:
        return 0.0
    if 2 * len(moving_F) >= len(sizes_F):
        moving_F = np.concatenate([np.sort(column_F)[:-1] for column_F in columns])
    return float(np.quantile(moving_F, 0.99, method="lower"))


def _above(column_F: NDArray[np.float32], limit: float) -> NDArray[np.int64]:
    return np.flatnonzero(column_F > limit)


def _warning(name: str, far: Sequence[tuple[Episode, int]], *, usual: float) -> str:
    column = ACTION_NAMES.index(name)
    named = [f"{e.path} frame {frame}: {e.actions[frame, column]:.4g}" for e, frame in far[:_MAX_NAMED]]
    more = [f"and {len(far) - _MAX_NAMED} more"] if len(far) > _MAX_NAMED else []
    return (
        f"{name} is more than {_FAR:.0f} times its usual size ({usual:.3g} {ACTION_UNITS[name]}, the 99th percentile) "
        f"in {len(far)} frame(s): {'; '.join([*named, *more])}. Mend or remove these files, or set "
        "model.normalization=quantile, so that they do not stretch the scale of all others"
    )
