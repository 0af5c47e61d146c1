"""The manifest of a DonkeyCar tub: the catalogs that belong to it, and the frames that are marked deleted."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobile_vla.errors import DataError, UserError
from mobile_vla.storage.disk import unreadable
from mobile_vla.untrusted.files import inside, parse_json, read_limited

LARGEST_INDEX = 2**53
"""Limit of a frame's index, far above any tub: JSON integers have none, but an index becomes an int64 attribute."""

RESTORE = "Restore the file from the car or a backup."

UNWRITTEN = "it was never written to the disk (full, or the power was cut)"

# DonkeyCar writes 1,000 lines per catalog, so a manifest names few catalogs.
_MAX_MANIFEST_BYTES = 8 * 2**20


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The names of the ``catalogs``, the ``deleted`` indexes, and how many records were ever written, where stated."""

    catalogs: tuple[str, ...]
    deleted: frozenset[int]
    num_written: int | None


def read_manifest(tub: Path) -> Manifest:
    """Return the content of the manifest's fifth JSON line; raise ``DataError`` where that is not usable."""
    path = tub / "manifest.json"
    try:
        content = read_limited(inside(tub, path.name), max_bytes=_MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{tub} is not a DonkeyCar tub: it has no manifest.json. Name the folder that holds one."
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not content.strip(b"\0\r\n "):
        raise DataError(f"{path} is empty or holds only zero bytes: {UNWRITTEN}. {RESTORE}")
    lines = content.split(b"\n", 5)
    if len(lines) < 5:
        raise DataError(f"{path} cannot be read: {len(lines)} lines were found and 5 expected. {RESTORE}")
    try:
        return _parse_manifest(parse_json(lines[4], place=f"{path} line 5"))
    except (UserError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read: line 5 is no JSON object with lists `paths` and `deleted_indexes` ({error}). "
            f"{RESTORE}"
        ) from error


def _parse_manifest(state: Any) -> Manifest:
    if not isinstance(state, dict):
        raise TypeError(f"it is {short(state)}")
    for key, kind in (("paths", str), ("deleted_indexes", int)):
        if not isinstance(state[key], list):
            raise TypeError(f"`{key}` is {short(state[key])}")
        for value in state[key]:
            # Not isinstance: JSON's true is a bool, which is an int in Python.
            if type(value) is not kind:
                raise TypeError(f"`{key}` holds {short(value)}, expected {kind.__name__}")
    if len(set(state["paths"])) < len(state["paths"]):
        raise TypeError("`paths` names a catalog twice")
    num_written = state.get("current_index")
    return Manifest(
        catalogs=tuple(state["paths"]),
        deleted=frozenset(state["deleted_indexes"]),
        num_written=num_written if type(num_written) is int and 0 <= num_written < LARGEST_INDEX else None,
    )


def short(value: Any) -> str:
    """Return the text of a record's value, shortened where it is long, so that error messages stay readable."""
    return _REPR.repr(value)


_REPR = reprlib.Repr()
_REPR.maxstring = 80
