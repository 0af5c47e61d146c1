"""The description of where an HDF5 file holds its recordings: one layout for each convention; keys by its patterns."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import h5py
from pydantic import Field

from mobile_vla.data.sources.hdf5.errors import report_damage
from mobile_vla.data.sources.hdf5.links import (
    camera_names,
    find_object,
    is_image_like,
    may_be_state,
    unread_arrays,
)
from mobile_vla.errors import ConfigError, DataError
from mobile_vla.installation import CONF
from mobile_vla.process.typed_commands import override, typed
from mobile_vla.spec import check_details, clean_names
from mobile_vla.text import shortened
from mobile_vla.untrusted.yaml_file import read_yaml

AUTO = "auto"
"""The layout that is recognised by the content of each file."""

_MAX_NAMES = 20_000
"""Maximum number of objects in a group whose names are compared with a pattern."""

_FOLDER = CONF / "dataset" / "layout"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the parts of a recording are in an HDF5 file; each option is explained in conf/dataset/layout/auto.yaml.

    A key is a path from the episode's group, or from the file's root where it begins with ``/``. ``*`` stands for any
    characters of one part, ``{camera}`` as well, and they are the camera's name; ``{camera?}`` is the same, but what is
    no image there is no camera. A key that ends with ``?`` is read where it is present. A place of a text is
    ``KEY@ATTRIBUTE``, and ``KEY@ATTRIBUTE.NAME.NAME`` where the attribute is JSON.
    """

    name: str
    episodes: str
    actions: str | Sequence[str]
    cameras: Sequence[str]
    images: Mapping[str, str]
    lengths: str | None
    state: str | Sequence[str]
    instruction: Sequence[str]
    masks: str | None
    rate_hz: Annotated[float, Field(gt=0)] | str | None
    robosuite: str | None
    names: Mapping[str, Sequence[str] | Sequence[Sequence[str]]]
    names_need: str | None
    signals: Mapping[str, Mapping[str, Any]]
    extra_observations: Literal[0, 1]

    def __post_init__(self) -> None:
        check_details(self.signals, option="dataset.layout.signals")

    @property
    def action_keys(self) -> tuple[str, ...]:
        """The keys of the actions, whose columns are joined in this order."""
        return (self.actions,) if isinstance(self.actions, str) else tuple(self.actions)

    @property
    def state_keys(self) -> tuple[str, ...]:
        """The keys of the state, whose columns are joined in this order."""
        return (self.state,) if isinstance(self.state, str) else tuple(self.state)

    def recognised_in(self, file: h5py.File, path: Path) -> Layout:
        """Return this layout as it holds for a file that only looks like it: without names that need another key."""
        if self.names_need is None or find_object(file, self.names_need, path) is not None:
            return self
        return replace(self, names={})

    @property
    def is_own(self) -> bool:
        """Whether the user stated something in place of what ``auto`` recognises."""
        stated = (name for name in self.__dataclass_fields__ if name not in ("name", "instruction"))
        return any(getattr(self, name) for name in stated) or not self._has_usual_instruction

    @property
    def names_data(self) -> bool:
        """Whether the user named cameras or actions."""
        return bool(self.images or self.cameras or self.action_keys)

    @property
    def _has_usual_instruction(self) -> bool:
        return list(self.instruction) == list(shipped_layout(AUTO).instruction)

    @property
    def has_own_keys(self) -> bool:
        """Whether the user named cameras and actions, so that nothing must be recognised."""
        return bool(self.images) and bool(self.action_keys)

    def with_own_keys(self, own: Layout) -> Layout:
        """Return this layout with what ``own``, the layout ``auto`` with keys of the user, states itself.

        Names and details of columns stay where ``own`` has none for the data set.
        """
        kept = {name: getattr(own, name) or getattr(self, name) for name in self.__dataclass_fields__}
        return Layout(
            **{
                **kept,
                "name": self.name,
                "instruction": self.instruction if own._has_usual_instruction else own.instruction,
                "names": {**self.names, **own.names},
                "signals": {**self.signals, **own.signals},
            }
        )


def unread_note(
    group: h5py.Group, layout: Layout, *, used: Collection[str], cameras: Mapping[str, str], num_rows: int
) -> list[str]:
    """Return a note that lists the arrays in the episode's ``group`` that are not read, and what would read them.

    ``used`` are the keys that are read, and ``cameras`` those of the images by name, all relative to ``group``. Only
    arrays with a row a frame are listed, of ``num_rows`` actions.
    """
    num_observed = num_rows + layout.extra_observations
    unread = unread_arrays(group, used, num_rows={num_rows, num_observed})
    if not unread:
        return []
    observed = {key: dataset for key, dataset in unread.items() if len(dataset) == num_observed}
    images = [key for key, dataset in observed.items() if is_image_like(key, dataset)]
    state = [
        key
        for key, dataset in observed.items()
        if key not in images and dataset.ndim <= 2 and dataset.dtype.kind == "f" and may_be_state(key)
    ]
    # What the user names replaces what the layout names, so the overrides hold both.
    ways = []
    if state:
        ways.append(f"{typed([override('dataset.layout.state', [*layout.state_keys, *state])])} reads the state")
    if images:
        known = [override(f"dataset.layout.images.{name}", key) for name, key in cameras.items()]
        names = camera_names([*cameras.values(), *images])[len(cameras) :]
        names = clean_names([*cameras, *names])[len(cameras) :]
        new = [override(f"dataset.layout.images.{name}", key) for name, key in zip(names, images, strict=True)]
        ways.append(f"{typed([*known, *new])} reads the images")
    listed = f"keys that are not read: {shortened(list(unread), limit=8)}"
    return [f"{listed} ({'; '.join(ways)})" if ways else listed]


def shipped_layout(name: str) -> Layout:
    """Return the layout of conf/dataset/layout with this name; raises ``ConfigError`` where there is none."""
    if name not in _read_layouts():
        raise ConfigError(f"dataset/layout={name}: no such layout; expected one of {', '.join(_read_layouts())}.")
    return _read_layouts()[name]


def shipped_layouts() -> list[Layout]:
    """Return the layouts of conf/dataset/layout, but for ``auto``, sorted by name."""
    return [layout for name, layout in _read_layouts().items() if name != AUTO]


@cache
def _read_layouts() -> dict[str, Layout]:
    layouts = {}
    for path in sorted(_FOLDER.glob("*.yaml")):
        options = {key: value for key, value in read_yaml(path).items() if key not in ("_target_", "defaults")}
        layouts[path.stem] = Layout(**options)
    return layouts


def keys_like(file: h5py.File, episode: str, pattern: str, path: Path) -> list[tuple[str, str]]:
    """Return the full keys that match ``pattern``, each with its name: what ``*`` and ``{camera}`` stand for.

    The name of a part with ``*`` is the whole part; it is empty without ``*`` and ``{camera}``. Numbers are in numeric
    order.
    """
    start = "" if pattern.startswith("/") else episode
    found = [(start, "")]
    for part in pattern.removesuffix("?").strip("/").split("/"):
        if "*" not in part and "{camera}" not in part:
            found = [(f"{key}/{part}".lstrip("/"), name) for key, name in found]
            continue
        expression = re.escape(part).replace(r"\*", ".*").replace(r"\{camera\}", "(?P<camera>.+)")
        found = [
            (f"{key}/{child}".lstrip("/"), "_".join(filter(None, (name, match.groupdict().get("camera", child)))))
            for key, name in found
            for child in _names_in(file, key, path)
            if (match := re.fullmatch(expression, child))
        ]
    return [(key, name) for key, name in found if find_object(file, key, path) is not None]


def _names_in(file: h5py.File, key: str, path: Path) -> list[str]:
    node = find_object(file, key, path) if key else file
    if not isinstance(node, h5py.Group):
        return []
    with report_damage(f"{path}: key '{key}' cannot be read"):
        if len(node) > _MAX_NAMES:
            raise DataError(f"{path}: key '{key}' holds {len(node)} objects; expected at most {_MAX_NAMES}.")
        names = [name for name in node if isinstance(name, str)]
    return sorted(names, key=_numeric_order)


def _numeric_order(name: str) -> list[tuple[int, str]]:
    """Return a sort key by which ``demo_2`` comes before ``demo_10``."""
    parts = re.split(r"([0-9]+)", name)  # the odd ones are numbers
    return [(int(part[:4000]) if index % 2 else 0, part) for index, part in enumerate(parts)]
