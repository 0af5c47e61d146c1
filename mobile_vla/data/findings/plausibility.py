"""Checks for implausible commands: a value far above all others, or a column that hardly changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.contract import Recording
from mobile_vla.schema import Episode
from mobile_vla.spec import Signal, Spec

_FAR = 10.0
"""A command larger than this many times the 99th percentile of its column is most likely a recording error."""

_HARDLY = 0.01
"""A column with a spread below this share of the largest column's spread counts as hardly changing.

The noise of a joystick at rest is below it.
"""

_MAX_NAMED = 3
"""Maximum number of frames, with their files, that one warning names."""


def implausible_actions(episodes: Sequence[Episode], spec: Spec) -> list[str]:
    """Return one warning for each predicted column that contains commands far above its 99th percentile.

    Each warning names the files and frames, and what to do.
    """
    # All episodes in one array, as ten thousand small ones take long.
    sizes_FA = np.abs(np.concatenate([episode.actions for episode in episodes]))
    first_rows_E = np.cumsum([0, *(episode.num_frames for episode in episodes)])
    found = []
    for index, signal in enumerate(spec.actions):
        limit = _FAR * _usual_size(sizes_FA[:, index], first_rows_E)
        rows = np.flatnonzero(sizes_FA[:, index] > limit)
        if len(rows):
            places = (np.searchsorted(first_rows_E, rows, side="right") - 1).tolist()
            far = [
                (episodes[place], row - int(first_rows_E[place]))
                for place, row in zip(places, rows.tolist(), strict=True)
            ]
            found.append(_warning(signal, index, far, usual=limit / _FAR))
    return found


def unmoving_columns(recordings: Sequence[Recording], spec: Spec) -> list[str]:
    """Return one warning for each column that is predicted but hardly changes, or changes but is not predicted.

    The whole spread of a column (maximum - minimum) is compared with the largest spread between the 1st and the 99th
    percentile of any column. With the whole spread, a column of rare key presses counts as changing. With the
    percentiles as reference, one extreme frame in one column does not make the other columns look constant.
    """
    used = {signal.name: signal for signal in spec.actions}
    specs = {id(recording.spec): recording.spec for recording in recordings}  # most share one object
    first, *others = specs.values()
    names = [name for name in first.action_names if all(name in other.action_names for other in others)]
    columns = {key: [recorded.action_names.index(name) for name in names] for key, recorded in specs.items()}
    values_FA = np.concatenate([recording.actions[:, columns[id(recording.spec)]] for recording in recordings])
    spread_A = np.ptp(values_FA, axis=0)
    middle_A = np.subtract(*np.quantile(values_FA, [0.99, 0.01], axis=0))
    units = [used[name].unit if name in used else None for name in names]
    # Where units differ, val/nrmse decides, which leaves out what never changes.
    lowers = ", yet it lowers the RMSE over all dimensions" if spec.common_unit else ""
    found = []
    for index, (name, spread) in enumerate(zip(names, spread_A.tolist(), strict=True)):
        # Only columns of one unit can be compared; of unknown ones nobody knows what much is.
        alike = [other for other, unit in enumerate(units) if unit is not None and unit == units[index]] or [index]
        largest = float(middle_A[alike].max()) or float(spread_A[alike].max())
        if spread > 0 and name not in used:
            found.append(f"{name} is recorded and changes, but dataset.actions leaves it out")
        elif spread == 0 and name in used:
            found.append(f"{name} never changes: predicting it is trivial{lowers}")
        elif spread < _HARDLY * largest and name in used:
            found.append(
                f"{name} hardly changes (by {_with_unit(spread, used[name], '.2g')}, another by {largest:.2g}): "
                f"predicting it is trivial{lowers}"
            )
    return found


def _usual_size(sizes_F: NDArray[np.float32], first_rows_E: NDArray[np.int64]) -> float:
    """Return the 99th percentile of the absolute values ``sizes_F`` of the episodes that begin at ``first_rows_E``.

    The last of ``first_rows_E`` is the number of all rows.

    Where most values are 0, zeros are left out: a key that is pressed in less than one frame of a hundred would make
    the percentile 0, and each press a warning. Otherwise the largest value of each episode is left out: one bad frame
    in every short episode can be more than a hundredth of all frames, and would raise the percentile so far that no
    bad frame is found.
    """
    moving_F = sizes_F[sizes_F > 0]
    if len(moving_F) == 0:
        return 0.0
    if 2 * len(moving_F) >= len(sizes_F):
        largest_F = np.repeat(np.maximum.reduceat(sizes_F, first_rows_E[:-1]), np.diff(first_rows_E))
        rows = np.flatnonzero(sizes_F == largest_F)
        _, first_of_episode = np.unique(np.searchsorted(first_rows_E, rows, side="right"), return_index=True)
        moving_F = np.delete(sizes_F, rows[first_of_episode])
    return float(np.quantile(moving_F, 0.99, method="lower"))


def _with_unit(value: float, signal: Signal, form: str) -> str:
    return f"{value:{form}} {signal.unit}" if signal.unit else f"{value:{form}}"


def _warning(signal: Signal, column: int, far: Sequence[tuple[Episode, int]], *, usual: float) -> str:
    named = [f"{e.path} frame {frame}: {e.actions[frame, column]:.4g}" for e, frame in far[:_MAX_NAMED]]
    more = [f"and {len(far) - _MAX_NAMED} more"] if len(far) > _MAX_NAMED else []
    return (
        f"{signal.name} is more than {_FAR:.0f} times its usual size "
        f"({_with_unit(usual, signal, '.3g')}, the 99th percentile) in {len(far)} frame(s): "
        f"{'; '.join([*named, *more])}. Mend or remove these files, or set "
        "model.normalization=quantile, so that they do not stretch the scale of all others"
    )
