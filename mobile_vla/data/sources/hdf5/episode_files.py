"""The search for episode files in a folder and its subfolders, with warnings for everything that is left out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mobile_vla.data.sources.hdf5.extents import SIGNATURE
from mobile_vla.errors import DataError, UnreadableNowError
from mobile_vla.text import first_few
from mobile_vla.untrusted.files import open_regular

_SUFFIXES = (".h5", ".hdf5")


@dataclass(frozen=True, kw_only=True)
class EpisodeFiles:
    """The ``paths`` of the episodes, sorted by name; one error for each file or folder that cannot be used; warnings.

    The warnings list what was left out.
    """

    paths: Sequence[Path]
    problems: Sequence[DataError]
    warnings: Sequence[str]


@dataclass(kw_only=True)
class _Walk:
    """The state of the search. A folder is identified by its device and inode, so that it is read only once."""

    files: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    nowhere: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    other_suffix: list[Path] = field(default_factory=list)
    problems: list[DataError] = field(default_factory=list)
    read: dict[tuple[int, int], Path] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)


def find_episode_files(folder: Path) -> EpisodeFiles:
    """Return the ``.h5`` and ``.hdf5`` files in ``folder`` and its subfolders; links to folders are followed.

    ``folder`` may also be a single file. Raises ``DataError`` when there is no such file at all.
    """
    if not folder.exists():
        raise DataError(f"{folder}: no such folder. Give dataset.path the folder that holds the episode files (*.h5).")
    if not folder.is_dir():
        return EpisodeFiles(paths=[folder], problems=[], warnings=[])
    walk = _Walk()
    _read_folder(folder, walk)
    while walk.links:  # after all real folders, so that a folder is listed under its real path and not under a link
        links, walk.links = sorted(walk.links), []
        for link in links:
            _read_folder(link, walk)
    walk.files.sort(key=lambda path: (path.stem, str(path)))
    paths = _drop_second_ways(walk)
    warnings = _left_out(walk, folder)
    if not paths and not walk.problems:
        left_out = "".join(f" {warning}." for warning in warnings)
        raise DataError(
            f"{folder}: holds no episode file (*.h5, *.hdf5). Give the folder the collector wrote to.{left_out}"
        )
    return EpisodeFiles(paths=paths, problems=walk.problems, warnings=warnings)


def _read_folder(folder: Path, walk: _Walk) -> None:
    """Add the content of ``folder`` and its subfolders to ``walk``; links to folders are collected for later."""
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            status = place.stat()
            first = walk.read.setdefault((status.st_dev, status.st_ino), place)
            if first != place:
                walk.twice.append(f"{place} leads to {first}, which is read once")
                continue
            with os.scandir(place) as entries:
                for entry in entries:
                    _add_entry(entry, walk, waiting)
        except OSError as error:
            walk.problems.append(
                UnreadableNowError(
                    f"{place}: the folder cannot be read ({error.strerror}), so the episodes in it are unknown. Give "
                    "the permission (chmod u+rx), mount the disk, or move the folder away."
                )
            )


def _add_entry(entry: os.DirEntry[str], walk: _Walk, waiting: list[Path]) -> None:
    path = Path(entry.path)
    is_episode = path.suffix.lower() in _SUFFIXES
    if entry.is_symlink() and not path.exists():  # a loop of links, or the disk of the target is not mounted
        if is_episode:
            walk.files.append(path)  # the error when it is read will name the cause
        else:
            walk.nowhere.append(path)
    elif entry.is_dir():
        if entry.name.startswith("."):
            walk.hidden.append(path)
        elif entry.is_symlink():
            walk.links.append(path)
        else:
            waiting.append(path)
    elif is_episode and entry.name.startswith("."):
        walk.hidden.append(path)
    elif is_episode:
        walk.files.append(path)
    elif not entry.name.startswith(".") and entry.is_file() and _is_hdf5(path):
        walk.other_suffix.append(path)


def _is_hdf5(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except (OSError, ValueError):  # it has no episode's suffix and cannot be read: most likely not an episode
        return False


def _drop_second_ways(walk: _Walk) -> list[Path]:
    """Return the files without second paths to the same file (links and hard links).

    Real files are preferred to links.
    """
    kept: dict[tuple[int, int], Path] = {}
    for path in sorted(walk.files, key=lambda path: path.is_symlink()):
        try:
            status = path.stat()
        except OSError:
            kept[(-1, len(kept))] = path  # the error when it is read will name the cause
            continue
        first = kept.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            kind = "is a link to" if path.is_symlink() else "is the same file as"
            walk.twice.append(f"{path} {kind} {first}, which is read once")
    chosen = set(kept.values())
    return [path for path in walk.files if path in chosen]


def _left_out(walk: _Walk, folder: Path) -> list[str]:
    found = list(_listed(sorted(walk.twice)))
    if walk.nowhere:
        found.append(f"{len(walk.nowhere)} link(s) lead to no file or folder: {_names(walk.nowhere, folder)}")
    if walk.hidden:
        found.append(f"{len(walk.hidden)} hidden file(s) or folder(s) left out: {_names(walk.hidden, folder)}")
    if walk.other_suffix:
        found.append(
            f"{len(walk.other_suffix)} file(s) are HDF5 but not named .h5 or .hdf5, and are left out: "
            f"{_names(walk.other_suffix, folder)}. Rename those that are episodes"
        )
    return found


def _listed(texts: Sequence[str]) -> Sequence[str]:
    more = [f"{len(texts) - 5} more files or folders can be reached in two ways and are read once"]
    return texts if len(texts) <= 6 else [*texts[:5], *more]


def _names(paths: Sequence[Path], folder: Path) -> str:
    return first_few([str(path.relative_to(folder)) for path in sorted(paths)])
