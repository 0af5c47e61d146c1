"""The action and state signals in an HDF5 file: their values, and the names, units and kinds of their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mobile_vla.data.sources.contract import MAX_FRAMES
from mobile_vla.data.sources.hdf5.chunks import read_rows
from mobile_vla.data.sources.hdf5.errors import describe, report_damage
from mobile_vla.data.sources.hdf5.extents import is_allocated_early
from mobile_vla.data.sources.hdf5.layout import Layout, shipped_layout
from mobile_vla.data.sources.hdf5.texts import attribute_texts, json_at
from mobile_vla.errors import DataError
from mobile_vla.spec import NORMALISED, Signal, Spec, clean_names, known_signal, parse_spec, with_details

SPEC_ATTRIBUTE = "mobile_vla_spec"
"""The attribute of a file, or of an episode's group, with the spec of its recording as JSON (``Spec.to_json``)."""

MAX_COLUMNS = 1000

_OSC_POSE = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
"""The columns of robosuite's operational-space controller: change of the end effector's pose, then the gripper."""


def own_spec(file: h5py.File, episode: str, path: Path) -> Spec | None:
    """Return the spec that the file states of the episode; None without any. Raises ``DataError`` where it is none."""
    content = json_at(file, f"@{SPEC_ATTRIBUTE}", path, episode=episode)
    content = content if content is not None else json_at(file, f"/@{SPEC_ATTRIBUTE}", path, episode=episode)
    if content is None:
        return None
    try:
        return parse_spec(content)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
        raise DataError(f"{path}: attribute '{SPEC_ATTRIBUTE}' is no spec ({found}). Export the data again.") from error


def fitting_spec(stated: Spec, found: Spec, path: Path) -> Spec:
    """Return the spec that the file states, with the cameras that were found; raise ``DataError`` for others."""
    for what, one, other in (("actions", stated.actions, found.actions), ("state", stated.state, found.state)):
        if len(one) != len(other):
            raise DataError(
                f"{path}: attribute '{SPEC_ATTRIBUTE}' describes {len(one)} columns of the {what}, and {len(other)} "
                "are stored. Export the data again."
            )
    sizes = {camera.name: camera for camera in stated.cameras}
    for camera in found.cameras:
        if sizes.get(camera.name, camera) != camera:
            raise DataError(
                f"{path}: attribute '{SPEC_ATTRIBUTE}' describes {sizes[camera.name]}, and {camera} is stored. Export "
                "the data again."
            )
    return replace(stated, cameras=found.cameras, rate_hz=stated.rate_hz or found.rate_hz)


def is_numeric(node: Any) -> bool:
    """Return whether ``node`` is a data set of numbers with one row a frame: [T] or [T, A]."""
    if not isinstance(node, h5py.Dataset) or node.shape is None:
        return False
    return node.ndim in (1, 2) and node.dtype.kind in "fiub" and (node.ndim == 1 or 0 < node.shape[1] <= MAX_COLUMNS)


def numeric_data(node: Any, key: str, path: Path, *, what: str) -> h5py.Dataset:
    """Return the data set ``node`` of the actions or the state, checked but not read; raises ``DataError`` for others.

    Actions are [T, A]; a state may also be [T].
    """
    with report_damage(f"{path}: key '{key}' cannot be read"):
        is_good, found = is_numeric(node) and (what == "state" or node.ndim == 2), describe(node)
    if not is_good or not isinstance(node, h5py.Dataset):
        is_choice = (
            isinstance(node, h5py.Dataset) and node.shape is not None and node.ndim == 1 and node.dtype.kind in "iu"
        )
        why = (
            "Discrete actions (the number of a choice) have no distance, so that no error of them can be measured."
            if is_choice
            else f"Name the data set that holds them: dataset.layout.{what}=KEY."
        )
        raise DataError(f"{path}: key '{key}' is {found}; expected [frames, columns] of real numbers. {why}")
    if len(node) > MAX_FRAMES:
        raise DataError(f"{path}: key '{key}' is {found}; expected at most {MAX_FRAMES} rows. Cut the episode.")
    return node


def read_values(dataset: h5py.Dataset, key: str, path: Path) -> NDArray[np.float32]:
    """Return all values of a checked data set as float32 [T, A]; [T] becomes one column.

    Raises ``DataError`` where one is not finite, or is an integer that float32 cannot hold.
    """
    place = f"{path}: key '{key}'"
    # over="ignore": float64 values beyond float32 become infinity, which the check below reports with its frame.
    with report_damage(f"{place} cannot be read"), np.errstate(over="ignore"):
        blocks = list(read_rows(dataset, place)) if len(dataset) else []
        stored = np.concatenate([np.zeros((0, *dataset.shape[1:]), dataset.dtype), *blocks])
        stored = stored.reshape(len(dataset), dataset.shape[1] if dataset.ndim == 2 else 1)
        values = stored.astype(np.float32)
    if stored.dtype.kind in "iu" and (lost := (values.astype(np.float64) != stored).any(axis=1)).any():
        raise DataError(
            f"{place} holds integers beyond 16,777,216, which float32 cannot hold, first in frame "
            f"{int(np.argmax(lost))}. Store them in another unit."
        )
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{place} holds NaN or infinity in {int((~finite).sum())} row(s), first in frame "
            f"{int(np.argmin(finite))}. Remove the episode or mend the recording."
        )
    return values


def check_written(values_FA: NDArray[np.float32], dataset: h5py.Dataset, key: str, path: Path) -> None:
    """Raise ``DataError`` where all actions are zero and their space was allocated before anything was written."""
    if not values_FA.any() and is_allocated_early(dataset):
        raise DataError(
            f"{path}: key '{key}' is zero in all rows, 0..{len(values_FA) - 1}, and was allocated before it was "
            "written: most likely it never was. Copy the file again or remove it."
        )


def action_signals(
    datasets: Mapping[str, h5py.Dataset], layout: Layout, path: Path, *, environment: Mapping[str, Any] | None
) -> tuple[Signal, ...]:
    """Return the signals of the joined columns of the ``datasets`` by key.

    ``environment`` describes the robosuite environment that was recorded, where it is known.
    """
    parts = []
    for key, dataset in datasets.items():
        name = key.rsplit("/", 1)[-1]
        known = robosuite_signals(environment, dataset.shape[1]) if name == "actions" and environment else None
        parts.append((name, known or columns(name, key, dataset, layout, path, is_numbered=True)))
    return _distinct(parts, layout)


def unnamed_note(datasets: Mapping[str, h5py.Dataset], layout: Layout) -> list[str]:
    """Return a note of the names that the shipped layout gives the columns of ``datasets``, and ``auto`` does not.

    None where the columns have names of their own.
    """
    shipped = shipped_layout(layout.name).names
    names: list[str] = []
    for key, dataset in datasets.items():
        name = key.rsplit("/", 1)[-1]
        if name in shipped and name not in layout.names and "names" not in dataset.attrs:
            choices = [each for each in shipped[name] if not isinstance(each, str)]
            names += next((each for each in choices if len(each) == dataset.shape[-1]), [])
    return (
        [
            f"nothing names the columns of the actions. If they are a base's {', '.join(names)} (m/s, rad/s), "
            f"dataset/layout={layout.name} names them so"
        ]
        if names
        else []
    )


def state_signals(datasets: Mapping[str, tuple[str, h5py.Dataset]], layout: Layout, path: Path) -> tuple[Signal, ...]:
    """Return the signals of the joined columns of ``datasets``: (key, data set) by name."""
    parts = [
        (name, columns(name, key, dataset, layout, path, is_numbered=dataset.ndim == 2))
        for name, (key, dataset) in datasets.items()
    ]
    return _distinct(parts, layout)


def columns(
    name: str, key: str, dataset: h5py.Dataset, layout: Layout, path: Path, *, is_numbered: bool
) -> tuple[Signal, ...]:
    """Return the signals of one data set, called ``name``.

    Their names are those of the layout, else of the data set's attribute ``names``, else ``name_0``, ``name_1``, ...
    Raises ``DataError`` where there are names for another number of columns.
    """
    num_columns = dataset.shape[1] if dataset.ndim == 2 else 1
    given = layout.names.get(name, ())
    choices = [[str(text) for text in ([names] if isinstance(names, str) else names)] for names in given]
    is_exact = bool(given) and isinstance(given[0], str)
    choices = [[text for names in choices for text in names]] if is_exact else choices
    fitting = [names for names in choices if len(names) == num_columns]
    if not fitting and is_exact:
        raise DataError(
            f"{path}: key '{key}' has {num_columns} columns, but dataset.layout.names.{name} names {len(given)}. Give "
            "one name a column."
        )
    attribute = attribute_texts(dataset, "names", f"{path}: key '{key}'") if not fitting else None
    if attribute is not None and len(attribute) != num_columns:
        raise DataError(
            f"{path}: key '{key}' has {num_columns} columns, but its attribute 'names' {len(attribute)} names. Mend "
            f"the attribute, or set dataset.layout.names.{name}."
        )
    singular = "action" if name == "actions" else name
    numbered = [f"{singular}_{index}" for index in range(num_columns)] if is_numbered else [name]
    names: Sequence[str] = fitting[0] if fitting else attribute or numbered
    return tuple(known_signal(text) for text in clean_names(names))


def robosuite_signals(environment: Mapping[str, Any], num_columns: int) -> tuple[Signal, ...] | None:
    """Return the signals of a robosuite environment; None where the description does not say that it is one.

    robosuite's actions lie in -1..1 whatever the controller. With the controller OSC_POSE and 7 columns they are a
    change of the end effector's pose, and the gripper.
    """
    if environment.get("type") != 1:  # robomimic's EnvType.ROBOSUITE_TYPE; its other simulators have other conventions
        return None
    options = environment.get("env_kwargs")
    found = list(_values_of_key(options, "type")) if isinstance(options, Mapping) else []
    if "OSC_POSE" in found and num_columns == len(_OSC_POSE) and not _is_absolute(options):
        pose = [Signal(name=name, unit=NORMALISED, kind="delta", rest=0.0) for name in _OSC_POSE[:-1]]
        return (*pose, Signal(name=_OSC_POSE[-1], unit=NORMALISED))
    return tuple(Signal(name=f"action_{index}", unit=NORMALISED) for index in range(num_columns))


def _is_absolute(options: object) -> bool:
    return False in _values_of_key(options, "control_delta") or "absolute" in _values_of_key(options, "input_type")


def _values_of_key(node: object, key: str, depth: int = 0) -> list[object]:
    """Return the values of ``key`` anywhere in nested tables, of limited depth."""
    if not isinstance(node, Mapping) or depth > 10:
        return []
    return [
        v for name, value in node.items() for v in ([value] if name == key else _values_of_key(value, key, depth + 1))
    ]


def _distinct(parts: Sequence[tuple[str, tuple[Signal, ...]]], layout: Layout) -> tuple[Signal, ...]:
    """Return the signals of all parts with different names and with what the layout says of data sets and columns."""
    signals = [
        with_details([signal], {signal.name: layout.signals.get(name, {})})[0]
        for name, part in parts
        for signal in part
    ]
    names = clean_names(signal.name for signal in signals)
    renamed = [with_details([s], {s.name: {"name": name}})[0] for s, name in zip(signals, names, strict=True)]
    return with_details(renamed, layout.signals)
