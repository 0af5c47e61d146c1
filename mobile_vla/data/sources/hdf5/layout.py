"""The description of where an HDF5 file holds its recordings: one layout for each convention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field

from mobile_vla.errors import ConfigError
from mobile_vla.installation import CONF
from mobile_vla.spec import check_details
from mobile_vla.untrusted.yaml_file import read_yaml

AUTO = "auto"
"""The layout that is recognised by the content of each file."""

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
    state: Sequence[str]
    instruction: Sequence[str]
    masks: str | None
    rate_hz: Annotated[float, Field(gt=0)] | str | None
    robosuite: str | None
    names: Mapping[str, Sequence[str] | Sequence[Sequence[str]]]
    signals: Mapping[str, Mapping[str, Any]]
    extra_observations: Literal[0, 1]

    def __post_init__(self) -> None:
        check_details(self.signals, option="dataset.layout.signals")

    @property
    def action_keys(self) -> tuple[str, ...]:
        """The keys of the actions, whose columns are joined in this order."""
        return (self.actions,) if isinstance(self.actions, str) else tuple(self.actions)

    @property
    def has_own_keys(self) -> bool:
        """Whether the user named cameras and actions, so that nothing must be recognised."""
        return bool(self.images) and bool(self.action_keys)

    def with_own_keys(self, own: Layout) -> Layout:
        """Return this layout with what ``own``, the layout ``auto`` with keys of the user, states itself."""
        kept = {name: getattr(own, name) or getattr(self, name) for name in self.__dataclass_fields__}
        return Layout(**{**kept, "name": self.name, "instruction": self.instruction})


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
