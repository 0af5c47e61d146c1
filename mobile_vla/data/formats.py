"""Recognise the format of recordings by their content, and open their source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from mobile_vla.data.sources.bags.bag_files import is_bag
from mobile_vla.data.sources.bags.options import BagOptions
from mobile_vla.data.sources.bags.source import BagSource
from mobile_vla.data.sources.contract import Source
from mobile_vla.data.sources.folders import Passed, search
from mobile_vla.data.sources.hdf5.layout import AUTO, Layout, shipped_layout
from mobile_vla.data.sources.hdf5.source import PACKAGED, Hdf5Source
from mobile_vla.data.sources.lerobot.info import is_lerobot, read_info
from mobile_vla.data.sources.lerobot.source import LeRobotSource
from mobile_vla.data.sources.tubs.source import TubSource, is_tub
from mobile_vla.data.sources.tubs.split import TubOptions
from mobile_vla.errors import ConfigError, DataError
from mobile_vla.installation import CONF
from mobile_vla.text import counted, first_few
from mobile_vla.untrusted.yaml_file import read_yaml

Format = Literal["auto", "hdf5", "lerobot", "bag", "tub"]

_TITLES: dict[Format, str] = {
    "lerobot": "LeRobot data set (meta/info.json)",
    "hdf5": "HDF5 file (*.h5, *.hdf5)",
    "bag": "ROS bag (metadata.yaml, *.mcap, *.db3, *.bag)",
    "tub": "DonkeyCar tub (manifest.json, *.catalog)",
}
"""What each format is called, and by what it is recognised."""

_HDF5_SUFFIXES = (".h5", ".hdf5")

_SUFFIXES = (*_HDF5_SUFFIXES, ".mcap", ".db3", ".bag")
"""Suffixes of the files that may be recordings."""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How recordings are read, where their format leaves a choice. ``order`` is that of the instruction's sources."""

    layout: Layout
    bag: BagOptions
    tub: TubOptions
    order: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OpenSource:
    """A source, and what was recognised, for people.

    ``root`` is the folder whose subfolders the user made, None where the format makes them. ``packaged`` are the ends
    of paths of which the format makes the folders.
    """

    source: Source
    described: str
    root: Path | None
    packaged: tuple[str, ...] = ()


def open_source(path: Path, format: Format, options: ReadingOptions) -> OpenSource:
    """Return the source of the recordings at ``path``, a folder or a file.

    With ``auto`` the format is recognised by content. Raises ``DataError`` where there are none, several or those of
    another format, with what was found and what is understood; ``ConfigError`` where an option is of another format.
    """
    opened = _recognised(path, options) if format == "auto" else _open(_checked(path, format), format, options)
    if unused := _unused_options(opened.source, options):
        name = opened.described.split(",")[0]
        raise ConfigError(f"{', '.join(unused)}: has no effect, as {path} is read as {name}. Leave it out.")
    return opened


def _open(path: Path, format: Format, options: ReadingOptions) -> OpenSource:
    if format == "lerobot":
        source = LeRobotSource(folder=path, order=options.order)
        return OpenSource(source=source, described="LeRobot", root=None)
    if format == "tub":
        source = TubSource(folder=path, options=options.tub)
        return OpenSource(source=source, described="DonkeyCar tub", root=None)
    if format == "bag":
        source = BagSource(folder=path, options=options.bag)
        return OpenSource(source=source, described="ROS bags", root=path)
    source = Hdf5Source(folder=path, layout=options.layout, order=options.order)
    return OpenSource(source=source, described="HDF5", root=path, packaged=PACKAGED)


def _checked(path: Path, format: Format) -> Path:
    """Return the place to read recordings of ``format`` from: ``path``, or the only LeRobot data set below it.

    Raises ``DataError`` where ``path`` holds recordings of other formats alone. Where it holds none at all, the source
    says what it looks for.
    """
    if format != "lerobot" and any(name == format for _, name in _recordings_below(path)):
        return path
    found = find_formats(path)
    if found[format]:
        return _only_set(path, found[format]) if format == "lerobot" else path
    others = [f"{place} is a {_title(name, place)}" for name, places in found.items() for place in places[:1]]
    if others:
        raise DataError(
            f"{path}: dataset.format={format} reads {_TITLES[format]}, and there is none; {'; '.join(others)}. Use "
            "dataset=auto, which recognises the format, or give dataset.path another folder."
        )
    return path


def _title(format: Format, place: Path) -> str:
    """Return what the recordings at ``place`` are called; with the version of a LeRobot data set."""
    title = _TITLES[format].split(" (")[0]
    if format != "lerobot":
        return title
    info = read_info(place)
    return f"{title} {info.version}" if info and info.version else f"{title} without its meta/info.json"


def _unused_options(source: Source, options: ReadingOptions) -> list[str]:
    """Return the options, with their values, that the user set for the recordings of another format."""
    bag, tub, layout = _defaults()
    unused = []
    if not isinstance(source, BagSource):
        unused += [f"dataset.bag.{text}" for text in _changes(options.bag, bag)]
    if not isinstance(source, TubSource):
        unused += [f"dataset.tub.{text}" for text in _changes(options.tub, tub)]
    if not isinstance(source, Hdf5Source) and options.layout.name != layout.name:
        unused.append(f"dataset/layout={options.layout.name}")
    elif not isinstance(source, Hdf5Source):
        unused += [f"dataset.layout.{text}" for text in _changes(options.layout, layout)]
    return unused


@cache
def _defaults() -> tuple[BagOptions, TubOptions, Layout]:
    """Return the options of each format as conf/dataset/auto.yaml has them: the only place of the defaults."""
    shipped = read_yaml(CONF / "dataset" / "auto.yaml")
    bag, tub = ({key: v for key, v in shipped[name].items() if key != "_target_"} for name in ("bag", "tub"))
    return BagOptions(**bag), TubOptions(**tub), shipped_layout(AUTO)


def _changes(options: Any, defaults: Any) -> list[str]:
    pairs = [(f.name, getattr(options, f.name), getattr(defaults, f.name)) for f in fields(options)]
    return [f"{name}={value}" for name, value, default in pairs if _plain(value) != _plain(default)]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def check_channel_order(opened: OpenSource, channel_order: str) -> None:
    """Raise ``ConfigError`` where ``channel_order`` is given and the recordings state the order themselves."""
    if channel_order != "rgb" and opened.source.states_channel_order:
        raise ConfigError(
            f"dataset.channel_order={channel_order}: has no effect, as each image of a bag states its encoding. "
            "Leave it out."
        )


def cutting_option(source: Source) -> str:
    """Return the option by which recordings of ``source`` are cut into episodes; empty where nothing cuts them."""
    options = {BagSource: "dataset.bag.max_gap_s", TubSource: "dataset.tub.max_frames"}
    return options.get(type(source), "")


def _recognised(path: Path, options: ReadingOptions) -> OpenSource:
    if not path.exists():
        raise DataError(f"{path}: no such folder or file. Give dataset.path where your recordings are.")
    found = find_formats(path)
    present: dict[Format, list[Path]] = {name: places for name, places in found.items() if places}
    understood = "; ".join(_TITLES.values())
    if not present:
        raise DataError(f"{path}: holds no recordings that are understood. Understood are: {understood}.")
    if len(present) > 1:
        listed = "; ".join(f"{len(places)} x {_TITLES[name]}, such as {places[0]}" for name, places in present.items())
        raise DataError(
            f"{path}: holds recordings of several formats: {listed}. Give dataset.path the folder of one of them, or "
            f"say which with dataset.format={'|'.join(present)}."
        )
    [(name, places)] = present.items()
    place = _only_set(path, places) if name == "lerobot" else path
    opened = _open(place, name, options)
    what = _title(name, place)
    what = what if name == "lerobot" else counted(len(places), what)
    where = f" at {place.relative_to(path)}" if place != path else ""
    return replace(opened, described=f"{what}{where}, recognised by content")


def _only_set(path: Path, places: Sequence[Path]) -> Path:
    """Return the only LeRobot data set of ``places`` below ``path``; ``path`` where there is none."""
    if len(places) > 1:
        raise DataError(
            f"{path}: holds {len(places)} LeRobot data sets: {first_few([str(place) for place in places])}. Give "
            "dataset.path one of them."
        )
    return places[0] if places else path


def find_formats(path: Path) -> dict[Format, list[Path]]:
    """Return the places below ``path``, or itself, that hold recordings, by format, in the order of their paths.

    Folders that cannot be listed are left out, as the source that reads them says so. See ``search``.
    """
    found: dict[Format, list[Path]] = {name: [] for name in _TITLES}
    for place, name in _recordings_below(path):
        found[name].append(place)
    for places in found.values():
        places.sort()
    return found


def _recordings_below(path: Path) -> Iterator[tuple[Path, Format]]:
    for place in search(path, is_recording=lambda folder: _format_of(folder) is not None, passed=Passed()):
        if place.suffix.lower() in _SUFFIXES or place.is_dir():
            name = _format_of(place)
            if name is not None:
                yield place, name


_RECOGNISERS: Sequence[tuple[Format, Callable[[Path], bool]]] = (
    ("lerobot", is_lerobot),
    ("tub", is_tub),
    ("bag", is_bag),
)


def _format_of(place: Path) -> Format | None:
    if place.suffix.lower() in _HDF5_SUFFIXES and not place.is_dir():
        return "hdf5"
    return next((name for name, recognises in _RECOGNISERS if recognises(place)), None)
