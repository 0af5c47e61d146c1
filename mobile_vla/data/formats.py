"""Recognise the format of recordings by their content, and open their source."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mobile_vla.data.sources.bags.bag_files import is_bag
from mobile_vla.data.sources.bags.options import BagOptions
from mobile_vla.data.sources.bags.source import BagSource
from mobile_vla.data.sources.contract import Source
from mobile_vla.data.sources.hdf5.layout import Layout
from mobile_vla.data.sources.hdf5.source import PACKAGED, Hdf5Source
from mobile_vla.data.sources.lerobot.info import is_lerobot, read_info
from mobile_vla.data.sources.lerobot.source import LeRobotSource
from mobile_vla.data.sources.tubs.source import TubSource, is_tub
from mobile_vla.data.sources.tubs.split import TubOptions
from mobile_vla.errors import ConfigError, DataError
from mobile_vla.text import counted, first_few

Format = Literal["auto", "hdf5", "lerobot", "bag", "tub"]

_TITLES: dict[Format, str] = {
    "lerobot": "LeRobot data set (meta/info.json)",
    "hdf5": "HDF5 file (*.h5, *.hdf5)",
    "bag": "ROS bag (metadata.yaml, *.mcap, *.db3, *.bag)",
    "tub": "DonkeyCar tub (manifest.json, *.catalog)",
}
"""What each format is called, and by what it is recognised."""

_HDF5_SUFFIXES = (".h5", ".hdf5")

_MAX_PLACES = 100_000
"""Maximum number of folders that are searched; a data set has far fewer."""


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

    With ``auto`` the format is recognised by content. Raises ``DataError`` where there are none or several, with what
    was found and what is understood.
    """
    if format == "auto":
        return _recognised(path, options)
    if format == "lerobot":
        path = path if is_lerobot(path) else _only_set(path, find_formats(path)["lerobot"])
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


def check_channel_order(opened: OpenSource, channel_order: str) -> None:
    """Raise ``ConfigError`` where ``channel_order`` is given and the recordings state the order themselves."""
    if channel_order != "rgb" and states_channel_order(opened.source):
        raise ConfigError(
            f"dataset.channel_order={channel_order}: has no effect, as each image of a bag states its encoding. "
            "Leave it out."
        )


def states_channel_order(source: Source) -> bool:
    """Return whether each image of ``source`` states the order of its colours."""
    return getattr(source, "states_channel_order", False)


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
    opened = open_source(place, name, options)
    what = _TITLES[name].split(" (")[0]
    if name == "lerobot":
        info = read_info(place)
        what = f"{what} {info.version}" if info and info.version else f"{what} without its meta/info.json"
    else:
        what = counted(len(places), what)
    where = f" at {place}" if place != path else ""
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

    What is inside of a recognised folder is not searched.
    """
    found: dict[Format, list[Path]] = {name: [] for name in _TITLES}
    waiting, seen = [path], 0
    while waiting and seen < _MAX_PLACES:
        place = waiting.pop()
        seen += 1
        name = _format_of(place)
        if name is not None:
            found[name].append(place)
        elif place.is_dir():
            waiting += _inside(place)
    for places in found.values():
        places.sort()
    return found


_RECOGNISERS: Sequence[tuple[Format, Callable[[Path], bool]]] = (
    ("lerobot", is_lerobot),
    ("tub", is_tub),
    ("bag", is_bag),
)


def _format_of(place: Path) -> Format | None:
    if place.suffix.lower() in _HDF5_SUFFIXES and not place.is_dir():
        return "hdf5"
    return next((name for name, recognises in _RECOGNISERS if recognises(place)), None)


def _inside(folder: Path) -> list[Path]:
    """Return the folders in ``folder``, and the files whose suffix may be that of a recording."""
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if not entry.name.startswith(".")
                and (entry.is_dir() or Path(entry.name).suffix.lower() in (*_HDF5_SUFFIXES, ".mcap", ".db3", ".bag"))
            ]
    except OSError:  # the source that searches this folder says so
        return []
