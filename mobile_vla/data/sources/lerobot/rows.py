"""The rows of one episode of a LeRobot table: actions, state, and the columns that lerobot writes for itself."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.lerobot.info import INFO, Info
from mobile_vla.data.sources.lerobot.signals import ACTION_KEYS, STATE_KEYS, Roles, signals_of
from mobile_vla.data.sources.lerobot.tables import batches, numbers
from mobile_vla.errors import DataError
from mobile_vla.spec import Signal

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_SAME_RATE = 0.05
"""Rates that differ by a smaller share are the same: 29.97 and 30 frames a second."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The F rows of an episode: ``actions`` [F, A] and ``state`` [F, S], float32, with their signals.

    The other columns [F] are None where the table lacks them. ``notes`` are oddities that were tolerated.
    """

    actions: NDArray[np.float32]
    state: NDArray[np.float32]
    action_signals: tuple[Signal, ...]
    state_signals: tuple[Signal, ...]
    times_s: NDArray[np.float64] | None
    frame_index: NDArray[Any] | None
    episode_index: NDArray[Any] | None
    task_index: NDArray[Any] | None
    rate_hz: float | None
    notes: tuple[str, ...]


def read_rows(
    table: ParquetFile, path: Path, span: tuple[int, int], *, roles: Roles, columns: Sequence[str], info: Info
) -> Generator[None, None, Rows]:
    """Return the rows from ``span[0]`` to before ``span[1]``; each yield reports progress.

    Raises ``DataError`` where a number is missing or not finite, or where frames are missing between the rows.
    """
    notes: list[str] = []
    own = [name for name in ("timestamp", "frame_index", "episode_index", "task_index") if name in columns]
    pieces: dict[str, list[NDArray[Any]]] = {name: [] for name in (roles.action, *roles.state, *own)}
    row = 0
    for batch in batches(table, path, list(pieces), span, row_bytes=1024):
        for name, found in pieces.items():
            values = numbers(batch[name], f"{path}: column '{name}'", row)
            if name == roles.action:
                values = _first_of_chunks(values, info, name, notes)
            found.append(values.reshape(len(values), -1))
        row += len(pieces[roles.action][-1])
        yield
    if row != span[1] - span[0]:
        raise DataError(f"{path}: claims {span[1] - span[0]} rows and has {row}. Copy the file again or remove it.")
    whole = {name: _joined(found, f"{path}: column '{name}'") for name, found in pieces.items()}
    actions, action_signals = _signals([roles.action], whole, info, "action", path, notes)
    state, state_signals = _signals(roles.state, whole, info, "state", path, notes)
    single = {
        name: whole[name][:, 0] if name in own else None for name in ("frame_index", "episode_index", "task_index")
    }
    times_s = whole["timestamp"][:, 0].astype(np.float64) if "timestamp" in own else None
    _check_order(single["frame_index"], path)
    rate_hz, note = rate_of(times_s, info.fps)
    return Rows(
        actions=actions,
        state=state,
        action_signals=action_signals,
        state_signals=state_signals,
        times_s=times_s,
        **single,
        rate_hz=rate_hz,
        notes=(*notes, note) if note else tuple(notes),
    )


def _joined(pieces: Sequence[NDArray[Any]], place: str) -> NDArray[Any]:
    widths = sorted({piece.shape[1] for piece in pieces})
    if len(widths) > 1 or widths[0] == 0:
        found = (
            "no values in its rows"
            if widths[-1] == 0
            else f"{widths[0]} values in some rows and {widths[-1]} in others"
        )
        raise DataError(f"{place} has {found}; expected the same number in each row. Record the episode again.")
    return np.concatenate(pieces)


def _signals(
    keys: Sequence[str], whole: dict[str, NDArray[Any]], info: Info, kind: str, path: Path, notes: list[str]
) -> tuple[NDArray[np.float32], tuple[Signal, ...]]:
    """Return the columns ``keys`` joined, [F, all their elements], and the signals that these are."""
    values = [_finite(whole[key], f"{path}: column '{key}'") for key in keys]
    widths = {key: value.shape[1] for key, value in zip(keys, values, strict=True)}
    plain = keys[0] if keys and keys[0] in (*ACTION_KEYS, *STATE_KEYS) else None
    signals, found = signals_of(widths, info, kind=kind, plain=plain, place=f"{path}: {INFO}")
    notes += found
    num_rows = len(next(iter(whole.values())))
    return np.concatenate(values, axis=1) if values else np.zeros((num_rows, 0), np.float32), signals


def _first_of_chunks(values: NDArray[Any], info: Info, key: str, notes: list[str]) -> NDArray[Any]:
    """Return the action of each row's own time, where each row has a chunk of actions: its first.

    Some sets store what a policy is to predict, the actions of this and the following rows, in place of the action.
    """
    shape = info.features[key].shape if key in info.features else ()
    if values.ndim == 2 and len(shape) == 2 and values.shape[1] == shape[0] * shape[1] and shape[0] > 1:
        values = values.reshape(len(values), *shape)
    if values.ndim < 3 or values.shape[1] == 0:
        return values
    note = f"'{key}' is a chunk of {values.shape[1]} actions in each row: the first is read"
    notes += [] if note in notes else [note]
    return values[:, 0]


def _finite(values: NDArray[Any], place: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # values beyond float32 become infinity, which is reported with its frame
        values = values.astype(np.float32)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{place} holds NaN or infinity in {int((~finite).sum())} row(s), first in frame "
            f"{int(np.argmin(finite))}. Remove the episode or mend the recording."
        )
    return values


def _check_order(frame_index: NDArray[Any] | None, path: Path) -> None:
    if frame_index is not None and (wrong := np.flatnonzero(np.diff(frame_index) != 1)).size:
        row = int(wrong[0])
        raise DataError(
            f"{path}: frame_index goes from {frame_index[row]} to {frame_index[row + 1]} in row {row + 1}: rows are "
            "missing or out of order. Record the episode again or remove it."
        )


def rate_of(rows_s: NDArray[np.float64] | None, declared_hz: float | None) -> tuple[float | None, str | None]:
    """Return the frames a second of an episode, from the times of its rows, and a note where ``info.json`` differs.

    ``declared_hz`` is used where it is right within a few percent, or where the times do not increase.
    """
    steps = np.diff(rows_s) if rows_s is not None and len(rows_s) > 1 else np.zeros(0)
    step = float(np.median(steps)) if len(steps) else 0.0
    if not np.isfinite(step) or step <= 0 or (steps <= 0).any():
        return declared_hz, None
    measured = round(1 / step, 3)
    if declared_hz is None:
        return measured, None
    if abs(measured - declared_hz) <= _SAME_RATE * declared_hz:
        return declared_hz, None
    return measured, f"info.json says {declared_hz:g} frames a second, the times of the rows {measured:g}"
