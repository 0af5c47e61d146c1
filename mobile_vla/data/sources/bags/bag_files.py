"""The bags in a folder: ROS 2 folders with metadata.yaml, MCAP and sqlite3 files without one, and ROS 1 files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobile_vla.data.sources.folders import Passed, search
from mobile_vla.errors import DataError, UnreadableNowError, UserError
from mobile_vla.storage.disk import unreadable
from mobile_vla.text import first_few
from mobile_vla.untrusted.files import lfs_pointer, open_regular

METADATA = "metadata.yaml"

_MAGIC = {".mcap": b"\x89MCAP0\r\n", ".db3": b"SQLite format 3\0", ".bag": b"#ROSBAG V"}
"""The first bytes of a bag by its suffix."""

_MARK = b"rosbag2_bagfile_information"
"""What the metadata.yaml of a ROS 2 bag begins with; many other tools write files of that name."""

_OPEN = (".active",)
"""Suffix of a bag that its recorder has not closed."""


@dataclass(frozen=True, kw_only=True)
class BagFiles:
    """The bags in the order of their names, the error of each file that only looks like one, and warnings."""

    bags: Sequence[Path]
    problems: Sequence[DataError]
    warnings: Sequence[str]


def is_bag(path: Path) -> bool:
    """Return whether ``path`` is a bag by its content: a ROS 2 folder, or a file of one of the three formats."""
    try:
        if path.is_dir():
            with open_regular(path / METADATA) as file:
                return _MARK in file.read(4096)
        return _has_magic(path)
    except (OSError, UserError):  # what cannot be read is no bag; reading it by name gives the cause
        return False


def storage_files(bag: Path) -> tuple[Path, ...]:
    """Return all files of a bag; those of a folder with its metadata first."""
    if not bag.is_dir():
        return (bag,)
    found = sorted(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3", ".zstd"))
    return (bag / METADATA, *found)


def find_bags(folder: Path) -> BagFiles:
    """Return the bags in ``folder`` and its subfolders; ``folder`` may be a bag itself.

    Raises ``DataError`` where there is no such folder, or no bag in it.
    """
    if not folder.exists():
        raise DataError(f"{folder}: no such folder. Give dataset.path the folder that holds the bags.")
    if not folder.is_dir() or is_bag(folder):
        return BagFiles(bags=[folder], problems=[], warnings=[])
    bags: list[Path] = []
    passed = Passed()
    problems = passed.problems
    unclosed: list[str] = []
    for path in search(folder, is_recording=is_bag, passed=passed):
        if path.name.endswith(_OPEN):
            unclosed.append(str(path.relative_to(folder)))
        elif path.is_dir() or is_bag(path):
            bags.append(path)
        elif path.suffix in _MAGIC:
            problems.append(_no_bag(path))
    if not bags and not problems:
        raise DataError(
            f"{folder}: holds no bag (a folder with {METADATA}, *.mcap, *.db3, *.bag). Give the folder that the "
            "recorder wrote to."
        )
    warnings = passed.warnings()
    if unclosed:
        warnings.append(
            f"{len(unclosed)} bag(s) were never closed by their recorder and are left out: {first_few(unclosed)}. "
            "`rosbag reindex` closes them"
        )
    return BagFiles(bags=sorted(bags), problems=problems, warnings=warnings)


def _has_magic(path: Path) -> bool:
    expected = _MAGIC.get(path.suffix)
    if expected is None:
        return False
    with open_regular(path) as file:
        return file.read(len(expected)) == expected


def _no_bag(path: Path) -> DataError:
    """Return the error for a file that is named as a bag and is none, or that cannot be read."""
    try:
        with open_regular(path) as file:
            begin = file.read(40)
    except OSError as error:
        return UnreadableNowError(str(unreadable(path, error)))
    except UserError as error:
        return DataError(str(error))
    if pointer := lfs_pointer(begin, instead_of="the bag"):
        return DataError(f"{path}: {pointer}")
    found = f"begins with {begin[:9]!r}" if begin else "is empty (0 bytes)"
    return DataError(f"{path}: {found}; expected {_MAGIC[path.suffix]!r} of a bag. Copy it again or remove it.")
