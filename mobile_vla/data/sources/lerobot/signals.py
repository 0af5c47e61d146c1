"""Which columns of a LeRobot table are actions and state, and the signals that their elements are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mobile_vla.data.sources.lerobot.info import INFO, Feature, Info
from mobile_vla.data.sources.lerobot.places import short_key
from mobile_vla.data.sources.lerobot.tables import Column
from mobile_vla.errors import DataError
from mobile_vla.spec import Signal, clean_names

ACTION_KEYS = ("action", "actions")
STATE_KEYS = ("observation.state", "state")

BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""The columns that lerobot writes for itself."""

_DETAILS = {"units": "unit", "kinds": "kind", "rest": "rest", "flips": "flips"}
"""The field of ``Signal`` for each key of a feature's details."""


@dataclass(frozen=True, kw_only=True)
class Roles:
    """What each column of a table is read as; ``unread`` are the columns that are not."""

    action: str
    state: tuple[str, ...]
    pictures: tuple[str, ...]
    unread: tuple[str, ...]


def roles_of(columns: Sequence[Column], info: Info, *, place: str) -> Roles:
    """Return what each column is read as; raises ``DataError``, which begins with ``place``, where none is an action.

    State are ``observation.state`` or ``state`` and all other vectors of floats named ``observation.*``.
    """
    by_name = {column.name: column for column in columns}
    is_numeric = {column.name for column in columns if column.kind in ("float", "integer")}
    action = next((key for key in ACTION_KEYS if key in is_numeric), None)
    if action is None:
        raise DataError(
            f"{place}: has no column of numbers called {' or '.join(ACTION_KEYS)}; found "
            f"{', '.join(by_name) or 'no column at all'}. Write the actions under one of these names."
        )
    first = [key for key in STATE_KEYS if key in is_numeric][:1]
    cameras = {key for key, feature in info.features.items() if feature.dtype in ("video", "image")}
    others = [
        column.name
        for column in columns
        if column.name.startswith("observation.") and column.kind == "float" and column.name not in {*first, *cameras}
    ]
    pictures = [column.name for column in columns if column.kind == "picture"]
    read = {action, *first, *others, *pictures, *BOOKKEEPING}
    return Roles(
        action=action,
        state=(*first, *others),
        pictures=tuple(pictures),
        unread=tuple(name for name in by_name if name not in read and not name.startswith("next.")),
    )


def signals_of(
    widths: Mapping[str, int], info: Info, *, kind: str, plain: str | None, place: str
) -> tuple[tuple[Signal, ...], list[str]]:
    """Return the signals of the columns whose ``widths`` are given, in order, and notes about names that do not fit.

    The elements of the column ``plain`` have their own names; those of others begin with the name of the column, as a
    robot's efforts are called like its joints. Elements without a name are called ``kind`` (``action``) and numbered.
    Units and kinds are unknown unless the feature states them: a name alone does not say whether an arm's command is
    in radians or normalised.
    """
    names: list[str] = []
    details: list[dict[str, Any]] = []
    notes = []
    for key, width in widths.items():
        feature = info.features.get(key, Feature(dtype=""))
        label = kind if key == plain else short_key(key)
        own = list(feature.names)
        if len(own) != width:
            if own and (width > 1 or len(own) > 1):
                notes.append(f"info.json gives {len(own)} names for the {width} values of '{key}': they are numbered")
            own = [f"{label}_{index}" for index in range(width)] if width > 1 else [label]
        elif key != plain and own != [label]:
            own = [f"{label}_{name}" for name in own]
        names += own
        details += [_details_of(feature, index, width, f"{place}: feature '{key}'") for index in range(width)]
    signals = []
    for name, fields in zip(clean_names(names), details, strict=True):
        try:
            signals.append(_signal_type().validate_python({"name": name, **fields}) if fields else Signal(name=name))
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(
                f"{place}: the signal '{name}' cannot have {'.'.join(map(str, first['loc']))}={first['input']!r:.80} "
                f"({first['msg']}). Correct it in {INFO}."
            ) from error
    return tuple(signals), notes


@cache  # making one takes 3 ms
def _signal_type() -> TypeAdapter[Signal]:
    return TypeAdapter(Signal)


def _details_of(feature: Feature, index: int, width: int, place: str) -> dict[str, Any]:
    for key, values in feature.details.items():
        if len(values) != width:
            raise DataError(f"{place} has {len(values)} '{key}' for {width} values. Give one for each in {INFO}.")
    return {_DETAILS[key]: values[index] for key, values in feature.details.items()}
