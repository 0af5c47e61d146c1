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
    found = []
    for index, signal in enumerate(spec.actions):
        columns = [np.abs(e.actions[:, index]) for e in episodes]
        limit = _FAR * _usual_size(columns)
        far = [(e, int(frame)) for e, column in zip(episodes, columns, strict=True) for frame in _above(column, limit)]
        if far:
            found.append(_warning(signal, index, far, usual=limit / _FAR))
    return found


def unmoving_columns(recordings: Sequence[Recording], spec: Spec) -> list[str]:
    """Return one warning for each column that is predicted but hardly changes, or changes but is not predicted.

    The whole spread of a column (maximum - minimum) is compared with the largest spread between the 1st and the 99th
    percentile of any column. With the whole spread, a column of rare key presses counts as changing. With the
    percentiles as reference, one extreme frame in one column does not make the other columns look constant.
    """
    used = {signal.name: signal for signal in spec.actions}
    names = [name for name in recordings[0].spec.action_names if all(name in r.spec.action_names for r in recordings)]
    columns = [[r.actions[:, r.spec.action_names.index(name)] for r in recordings] for name in names]
    values_FA = np.stack([np.concatenate(column) for column in columns], axis=1)
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


def _usual_size(columns: Sequence[NDArray[np.float32]]) -> float:
    """Return the 99th percentile of the absolute values in ``columns`` (one column per episode).

    Where most values are 0, zeros are left out: a key that is pressed in less than one frame of a hundred would make
    the percentile 0, and each press a warning. Otherwise the largest value of each episode is left out: one bad frame
    in every short episode can be more than a hundredth of all frames, and would raise the percentile so far that no
    bad frame is found.
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
