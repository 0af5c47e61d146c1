"""The listing of a DonkeyCar tub's folder: the images that its records name, and counts of all other files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobile_vla.data.sources.tubs.tub import Tub
from mobile_vla.errors import DataError
from mobile_vla.storage.disk import unreadable
from mobile_vla.text import shortened
from mobile_vla.untrusted.files import inside


@dataclass(frozen=True, kw_only=True)
class TubFolder:
    """The names in ``images/``, and the files of the tub that are not read: ``left_aside`` counts them by kind.

    ``unnamed_catalogs`` are files with the suffix of catalogs that the manifest does not name.
    """

    images: frozenset[str]
    left_aside: Mapping[str, int]
    unnamed_catalogs: tuple[str, ...]


def look_through(tub: Tub) -> TubFolder:
    """Return the listing of the tub's folder.

    Raises ``UserError`` where the folder cannot be listed, or a link points outside it.
    """
    folder = tub.path / "images"
    inside(tub.path, folder.name)
    kept = {record.image for record in tub.records}
    left_aside: Counter[str] = Counter()
    images = set()
    for entry in _entries(folder):
        if entry.is_symlink() and entry.name in kept:
            inside(tub.path, Path(folder.name, entry.name))
        images.add(entry.name)
        if entry.name in kept:
            continue
        if entry.name in tub.deleted_images:
            left_aside["images of deleted frames"] += 1
        elif entry.name in tub.autopilot_images:
            left_aside["images of frames that an autopilot drove"] += 1
        elif entry.name.startswith("."):
            left_aside["hidden files in images"] += 1
        elif entry.is_dir(follow_symlinks=False):
            left_aside["folders in images"] += 1
        else:
            left_aside["images that no record names"] += 1
    catalogs = {entry.name for entry in _entries(tub.path) if entry.name.endswith(".catalog")}
    unnamed = sorted(catalogs - {os.path.normpath(name) for name in tub.catalogs})  # normpath: "./a" and "a" are equal
    if unnamed:
        left_aside[f"catalogs that manifest.json does not name ({shortened(unnamed, limit=4)})"] = len(unnamed)
    return TubFolder(images=frozenset(images), left_aside=left_aside, unnamed_catalogs=tuple(unnamed))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{folder} is missing, but the tub's images belong there. Copy the whole tub.") from error
    except OSError as error:
        raise unreadable(folder, error) from error
