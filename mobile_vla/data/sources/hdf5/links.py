"""Lookup of objects in an HDF5 file without following links to other files; messages for those that are not there.

Other files are never opened, because the hash of the data set covers only the episode file itself.
"""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from mobile_vla.data.sources.hdf5.errors import describe, report_damage
from mobile_vla.errors import DataError
from mobile_vla.process.typed_commands import override, typed
from mobile_vla.spec import clean_names

_MAX_SOFT_LINKS = 16
_MAX_LISTED_KEYS = 30
_MAX_KEY_LENGTH = 80
_MAX_VISITED = 200
_IMAGE_NAME = re.compile(r"im(age|g)|cam|rgb|frame", re.IGNORECASE)
_ACTION_NAME = re.compile(r"act(ion|$)|cmd|command|control", re.IGNORECASE)
_INSTRUCTION_NAME = re.compile(r"(instruct|prompt|task|lang|goal|command)[^/]*$", re.IGNORECASE)
_NO_STATE = re.compile(
    r"reward|done|terminal|terminat|truncat|time|stamp|index|action|return"
    r"|(^|/)(states|object)$",  # of robosuite: what only a simulation knows
    re.IGNORECASE,
)
_NEXT = re.compile(r"(^|/)next_obs(ervations?)?(/|$)", re.IGNORECASE)
_NO_IMAGES = "dataset.layout.images.front=KEY"
_WHY = (
    "What it points to could change without this file changing, or be missing and read as zeros. Write the data "
    "themselves into the file."
)


def find_object(file: h5py.File, key: str, path: Path) -> h5py.Dataset | h5py.Group | h5py.Datatype | None:
    """Return the object at ``key``, or None where there is none.

    Raises ``DataError`` where the data of the object are in another file, or a soft link leads in a circle.

    Each part of the key is looked up by its link and is not opened: ``key in file`` would follow an external link.
    """
    node: h5py.Dataset | h5py.Group | h5py.Datatype = file
    parts, num_soft = deque(key.split("/")), 0
    with report_damage(f"{path}: key '{key}' cannot be read"):
        while parts:
            name = parts.popleft()
            if name in ("", "."):
                continue
            if not isinstance(node, h5py.Group):
                return None
            link = node.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise DataError(
                    f"{path}: key '{key}' is an external link, to '{link.path}' in '{link.filename}'. {_WHY}"
                )
            if isinstance(link, h5py.SoftLink):
                num_soft += 1
                if num_soft > _MAX_SOFT_LINKS:
                    raise DataError(f"{path}: key '{key}' is a soft link that leads in a circle. Remove the file.")
                parts.extendleft(reversed(link.path.split("/")))
                node = file if link.path.startswith("/") else node
            elif link is None:
                return None
            else:
                node = node[name]
        if isinstance(node, h5py.Dataset):
            _check_self_contained(node, f"{path}: key '{key}'")
    return node


def _check_self_contained(dataset: h5py.Dataset, place: str) -> None:
    settings = dataset.id.get_create_plist()
    if settings.get_layout() == h5py.h5d.VIRTUAL:
        raise DataError(f"{place} is a virtual data set: its data are in other files. {_WHY}")
    if settings.get_external_count():
        name = settings.get_external(0)[0].decode(errors="replace")
        raise DataError(f"{place} has external storage: its data are in the file '{name}'. {_WHY}")


class MissingKeyError(DataError):
    """A file has none of the keys ``expected``, so that another layout may fit it.

    ``found`` says what is there in place of a data set.
    """

    def __init__(self, expected: Sequence[str], *, found: str = "") -> None:
        keys = [key.removesuffix("?") for key in expected]
        self.expected = [key for key in keys if "{" not in key] or keys
        super().__init__(found or f"has no key {' or '.join(map(repr, self.expected))}")


class AmbiguousKeyError(DataError):
    """A file has two data sets where one is expected, whatever other layout may fit it."""


def missing_keys(
    file: h5py.File,
    path: Path,
    lack: str,
    *,
    expected: Sequence[str],
    fitting: Sequence[str] = (),
    is_own: bool = False,
) -> DataError:
    """Return the error of a file that cannot be read because of what it lacks (``lack``, in words).

    It lists what the file holds, names that are similar to the ``expected`` keys, and how to read it: with one of the
    layouts that are ``fitting``, or with the keys of what looks like images, actions and state. ``is_own`` is whether
    the user named keys.
    """
    keys = _without_repeats(list_keys(file))
    nodes = {key: _node(file, key, path) for key in keys}
    found = [f"{key} {describe(node)}" if isinstance(node, h5py.Dataset) else key for key, node in nodes.items()]
    close = [match for key in expected for match in difflib.get_close_matches(key, keys, n=1, cutoff=0.6)]
    close = [key for key in close if key not in expected]
    hint = f" Did the collector mean '{close[0]}'?" if close and (is_own or not fitting) else ""
    remedy = f"Name the keys that hold them: {typed(_overrides(nodes))}"
    if fitting:
        remedy = f"{of_layouts(fitting, is_own=is_own)}{f' {remedy}' if is_own else ''}"
    return DataError(f"{path}: {lack}; found {', '.join(found) or 'no key at all'}.{hint} {remedy}")


def of_layouts(fitting: Sequence[str], *, is_own: bool) -> str:
    """Return the sentence that a file fits the layouts ``fitting``; ``is_own`` is whether the user named keys."""
    if is_own:
        return f"Without keys of your own in dataset.layout, dataset/layout={fitting[0]} reads it."
    return f"It is laid out as {fitting[0]}: set dataset/layout={fitting[0]}."


def _without_repeats(keys: Sequence[str]) -> list[str]:
    """Return the keys but those in the second and later of numbered groups, which hold the same as the first."""
    group, pattern = _repeated_group(keys)
    alike = pattern.removesuffix("*")
    return [
        key
        for key in keys
        if not group or key == group or key.startswith(f"{group}/") or not re.match(rf"{re.escape(alike)}\d+(/|$)", key)
    ]


def _node(file: h5py.File, key: str, path: Path) -> object:
    try:
        return find_object(file, key, path)
    except DataError:  # it is only listed, and what is wrong with it is another error
        return None


def _overrides(nodes: Mapping[str, object]) -> list[str]:
    """Return the overrides that name what looks like images, actions and state: by type and shape, and by name."""
    datasets = {key: node for key, node in nodes.items() if isinstance(node, h5py.Dataset) and node.shape}
    images = [key for key, node in datasets.items() if node.dtype == np.uint8 and node.ndim == 4]
    images = images or [key for key, node in datasets.items() if _IMAGE_NAME.search(key)]
    numbers = [key for key, node in datasets.items() if node.ndim in (1, 2) and node.dtype.kind in "fiu"]
    numbers = [key for key in numbers if key not in images]
    actions = [key for key in numbers if datasets[key].ndim == 2]
    actions = ([key for key in actions if _ACTION_NAME.search(key)] or actions)[:1]
    group, pattern = _repeated_group(list(nodes))
    lengths = {len(datasets[key]) for key in (*images[:1], *actions)}
    state = [
        key
        for key in numbers
        if {len(datasets[key])} == lengths and datasets[key].dtype.kind == "f" and key not in actions
    ]
    # Without images and actions there is nothing by whose length a state would be known.
    state = [key for key in state if may_be_state(key)] if images and actions else []
    texts = [
        key for key, node in nodes.items() if is_text(node) and key not in images and _INSTRUCTION_NAME.search(key)
    ]
    if group:
        images, actions, state, texts = (
            [key.removeprefix(f"{group}/") for key in keys if key.startswith(f"{group}/")]
            for keys in (images, actions, state, texts)
        )
    return [
        *([override("dataset.layout.episodes", pattern)] if group else []),
        *(image_overrides(images) or [_NO_IMAGES]),
        override("dataset.layout.actions", actions[0] if actions else "KEY"),
        *([override("dataset.layout.state", state if len(state) > 1 else state[0])] if state else []),
        *([override("dataset.layout.instruction", texts[:1])] if texts else []),
    ]


def image_overrides(keys: Sequence[str]) -> list[str]:
    """Return the override of each camera whose images are at one of ``keys``."""
    names = camera_names(keys)
    return [override(f"dataset.layout.images.{name}", key) for name, key in zip(names, keys, strict=True)]


def camera_names(keys: Sequence[str]) -> list[str]:
    """Return a name for each key of images: its last part, or the first part in which it differs from the others.

    ``sensors/high/rgb`` and ``sensors/wrist/rgb`` are ``high`` and ``wrist``. Where that part is not enough, it is the
    whole path.
    """
    paths = [key.split("/") for key in keys]
    names = [path[-1] for path in paths]
    if len(set(names)) < len(names):
        shared = next((at for at, parts in enumerate(zip(*paths, strict=False)) if len(set(parts)) > 1), 0)
        names = [path[shared] if shared < len(path) else path[-1] for path in paths]
    return clean_names(names if len(set(names)) == len(names) else ["_".join(path) for path in paths])


def is_text(node: object) -> bool:
    """Return whether ``node`` is a data set of texts."""
    return isinstance(node, h5py.Dataset) and (
        h5py.check_string_dtype(node.dtype) is not None or node.dtype.kind in "SU"
    )


def _repeated_group(keys: Sequence[str]) -> tuple[str, str]:
    """Return the first of numbered groups, such as ``data/demo_0``, and the pattern of them all; empty without any."""
    for key in keys:
        match = re.fullmatch(r"((?:[^/]+/)?[^/]*?)\d+", key)
        if match and any(other.startswith(f"{key}/") for other in keys):
            return key, f"{match[1]}*"
    return "", ""


def list_keys(file: h5py.File) -> list[str]:
    """Return the keys of all objects, at most 30 and then "..."; links to other files are not followed.

    Those of the next observations are left out: they repeat the others one step later, and a policy that sees them
    sees the future.
    """
    keys: list[str] = []

    def add(key: str | bytes) -> bool | None:
        text = key if isinstance(key, str) else repr(key)
        if _NEXT.search(text):
            return None
        keys.append(text if len(text) <= _MAX_KEY_LENGTH else f"{text[:_MAX_KEY_LENGTH]}...")
        return True if len(keys) > _MAX_LISTED_KEYS else None  # True ends the visit

    file.visit(add)
    return [*keys[:_MAX_LISTED_KEYS], "..."] if len(keys) > _MAX_LISTED_KEYS else keys


def may_be_state(key: str) -> bool:
    """Return whether the name of ``key`` does not speak against a measurement of the robot."""
    return not _NO_STATE.search(key)


def unread_arrays(group: h5py.Group, used: Collection[str], *, num_rows: Collection[int]) -> dict[str, h5py.Dataset]:
    """Return the arrays in ``group`` with one of ``num_rows`` that are not ``used``, by key relative to it.

    Those of next observations are left out. At most 200 objects are looked at; none where one of them cannot be opened,
    as nothing needs them.
    """
    found: dict[str, h5py.Dataset] = {}
    num_seen = 0

    def add(key: str, node: object) -> bool | None:
        nonlocal num_seen, found
        num_seen += 1
        if isinstance(node, h5py.Dataset) and node.shape and node.dtype.kind in "fiub" and len(node) in num_rows:
            found |= {key: node} if key not in used and not _NEXT.search(key) else {}
        return True if num_seen >= _MAX_VISITED else None

    try:
        with report_damage("its keys cannot be listed"):
            group.visititems(add)
    except DataError:
        return {}
    return found


def is_image_like(key: str, dataset: h5py.Dataset) -> bool:
    """Return whether type, shape and name are those of images; no data are read, as nothing has checked them."""
    if dataset.dtype != np.uint8:
        return False
    return dataset.ndim == 4 or (dataset.ndim == 2 and _IMAGE_NAME.search(key) is not None)
