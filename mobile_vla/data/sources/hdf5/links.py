"""Lookup of objects in an HDF5 file without following links to other files.

Other files are never opened, because the hash of the data set covers only the episode file itself.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

import h5py

from mobile_vla.data.sources.hdf5.errors import report_damage
from mobile_vla.errors import DataError

_MAX_SOFT_LINKS = 16
_MAX_LISTED_KEYS = 30
_MAX_KEY_LENGTH = 80
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


def list_keys(file: h5py.File) -> list[str]:
    """Return the keys of all objects, at most 30 and then "..."; links to other files are not followed."""
    keys: list[str] = []

    def add(key: str | bytes) -> bool | None:
        text = key if isinstance(key, str) else repr(key)
        keys.append(text if len(text) <= _MAX_KEY_LENGTH else f"{text[:_MAX_KEY_LENGTH]}...")
        return True if len(keys) > _MAX_LISTED_KEYS else None  # True ends the visit

    file.visit(add)
    return [*keys[:_MAX_LISTED_KEYS], "..."] if len(keys) > _MAX_LISTED_KEYS else keys
