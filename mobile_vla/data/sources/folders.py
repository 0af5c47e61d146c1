"""The search through a folder and its subfolders for recordings that are folders or files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mobile_vla.errors import DataError, UnreadableNowError
from mobile_vla.storage.disk import unreadable
from mobile_vla.text import first_few

_MAX_FOLDERS = 100_000
"""Maximum number of folders that are searched; a data set has far fewer."""


@dataclass(frozen=True, kw_only=True)
class Passed:
    """What a search passed over: folders that cannot be listed, and recordings that links lead to a second time."""

    problems: list[DataError] = field(default_factory=list)
    twice: list[Path] = field(default_factory=list)

    def warnings(self) -> list[str]:
        """Return a sentence about the links, if there are any."""
        if not self.twice:
            return []
        listed = first_few([str(path) for path in self.twice])
        return [f"{len(self.twice)} link(s) lead to recordings that are there already, which are read once: {listed}"]


def search(folder: Path, *, is_recording: Callable[[Path], bool], passed: Passed) -> Iterator[Path]:
    """Yield each folder below ``folder`` that ``is_recording``, and each file that is in none of these.

    ``folder`` itself is a recording too, or a file. What is inside of a recording is not searched, and hidden files and
    folders are left out. Links to folders are followed after all real folders; a folder to which several ways lead is
    yielded or searched once, so links may lead back. ``passed`` is filled. Raises ``DataError`` for more folders than a
    data set has.
    """
    waiting: list[Path] = [folder]
    links: list[Path] = []
    seen: set[tuple[int, int]] = set()
    while waiting or links:
        place = waiting.pop() if waiting else links.pop(0)
        identity = _identity(place)
        if identity is None:
            yield place
            continue
        if identity in seen:
            if is_recording(place):
                passed.twice.append(place)
            continue
        seen.add(identity)
        if is_recording(place):
            yield place
            continue
        if len(seen) > _MAX_FOLDERS:
            raise DataError(
                f"{folder}: holds more than {_MAX_FOLDERS:,} folders, such as {place}. Give dataset.path the folder of "
                "one data set."
            )
        try:
            with os.scandir(place) as entries:
                found = sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
        except OSError as error:
            passed.problems.append(UnreadableNowError(str(unreadable(place, error))))
            continue
        for entry in found:
            if not _is_folder(entry):
                yield Path(entry.path)
            else:
                (links if entry.is_symlink() else waiting).append(Path(entry.path))


def _identity(place: Path) -> tuple[int, int] | None:
    """Return device and inode of a folder; None of anything else, also of a link that leads nowhere."""
    try:
        status = place.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
