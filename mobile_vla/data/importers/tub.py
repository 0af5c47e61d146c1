"""The records of a DonkeyCar tub (version 2), read from its catalogs and checked against limits before use."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobile_vla.errors import DataError, UserError
from mobile_vla.storage.disk import unreadable
from mobile_vla.text import shortened
from mobile_vla.untrusted.files import inside, open_regular, parse_json, read_limited

IMAGE_KEY = "cam/image_array"
ANGLE_KEY = "user/angle"
THROTTLE_KEY = "user/throttle"

_REQUIRED_KEYS: dict[str, tuple[type, ...]] = {
    "_index": (int,),
    "_timestamp_ms": (int, float),
    IMAGE_KEY: (str,),
    ANGLE_KEY: (int, float),
    THROTTLE_KEY: (int, float),
}

# Above 1, because a 16-bit joystick reaches -32768 and DonkeyCar divides by 32767: valid commands go down to -1.00003.
_COMMAND_LIMIT = 1.0001

# The end of the year 9999, the last that Python's datetime can represent: the time stamp becomes part of a file name.
_END_OF_CALENDAR_MS = 253_402_300_800_000

# JSON integers have no limit, but an index becomes an int64 attribute of the episode file. Far above any tub.
_LARGEST_INDEX = 2**53

# DonkeyCar writes 1,000 lines per catalog, each of 200 bytes, or of about 10,000 bytes with lidar distances. The limits
# are far above that, and a tub that reaches all of them still needs only a few hundred MB of memory.
_MAX_MANIFEST_BYTES = 8 * 2**20
_MAX_CATALOG_BYTES = 64 * 2**20
_MAX_LINE_BYTES = 2**20
_MAX_RECORDS = 1_000_000  # 14 hours at 20 Hz

_MAX_SESSION_CHARACTERS = 200

_RESTORE = "Restore the file from the car or a backup."

_UNWRITTEN = "it was never written to the disk (full, or the power was cut)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One frame: ``angle`` (+ is right) and ``throttle`` (+ is forward) in [-1, 1], ``image`` a file in ``images/``."""

    # slots: a tub may have a million records, and without slots each would have a dictionary of its own.

    index: int
    timestamp_ms: float
    session_id: str | None
    image: str
    angle: float
    throttle: float


@dataclass(frozen=True, kw_only=True)
class Tub:
    """The kept ``records`` in the order of the catalogs, and the indexes that the manifest marks as deleted.

    ``num_deleted`` counts the records found with those indexes; only their image names are read. ``num_written`` is
    the number of records that were ever written according to the manifest, or None where it gives none.
    ``empty_catalog`` is the name of the last catalog if it has no record, as after a power cut; otherwise None.
    """

    path: Path
    records: tuple[Record, ...]
    deleted: frozenset[int]
    num_deleted: int
    deleted_images: frozenset[str]
    catalogs: tuple[str, ...]
    empty_catalog: str | None
    num_written: int | None

    def image_path(self, record: Record) -> Path:
        """Return the path of the frame's image."""
        return self.path / "images" / record.image


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    catalogs: tuple[str, ...]
    deleted: frozenset[int]
    num_written: int | None


def read_tub(path: Path) -> Tub:
    """Return the tub at ``path``; only the catalogs that ``manifest.json`` names are read.

    Tubs can contain leftover files that only look like catalogs. Raises ``UserError``, with file and line, for anything
    that is missing, broken, out of range, or outside the tub.
    """
    manifest = _read_manifest(path)
    records: list[Record] = []
    deleted_images: set[str] = set()
    empty: str | None = None
    num_deleted = 0
    for catalog in manifest.catalogs:
        if empty is not None:  # only the last catalog may be empty, as after a power cut
            raise DataError(f"{path / empty} holds no record: {_UNWRITTEN}. {_RESTORE}")
        num_before = len(records) + num_deleted
        for place, entry in _read_lines(path, catalog):
            if len(records) + num_deleted == _MAX_RECORDS:
                raise DataError(f"{place}: this tub has more than {_MAX_RECORDS:,} records. Split it into several.")
            index = entry.get("_index")
            if isinstance(index, int) and index in manifest.deleted:
                num_deleted += 1
                if isinstance(image := entry.get(IMAGE_KEY), str):
                    deleted_images.add(image)
            else:
                records.append(_parse_record(entry, place))
        if len(records) + num_deleted == num_before:
            empty = catalog
    return Tub(
        path=path,
        records=tuple(records),
        deleted=manifest.deleted,
        num_deleted=num_deleted,
        deleted_images=frozenset(deleted_images),
        catalogs=manifest.catalogs,
        empty_catalog=empty,
        num_written=manifest.num_written,
    )


def _read_manifest(tub: Path) -> _Manifest:
    """Return the content of the manifest's fifth JSON line: the file names of the catalogs and the deleted indexes."""
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
        raise DataError(f"{path} is empty or holds only zero bytes: {_UNWRITTEN}. {_RESTORE}")
    lines = content.split(b"\n", 5)
    if len(lines) < 5:
        raise DataError(f"{path} cannot be read: {len(lines)} lines were found and 5 expected. {_RESTORE}")
    try:
        return _parse_manifest(parse_json(lines[4], place=f"{path} line 5"))
    except (UserError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read: line 5 is no JSON object with lists `paths` and `deleted_indexes` ({error}). "
            f"{_RESTORE}"
        ) from error


def _parse_manifest(state: Any) -> _Manifest:
    if not isinstance(state, dict):
        raise TypeError(f"it is {_short(state)}")
    for key, kind in (("paths", str), ("deleted_indexes", int)):
        if not isinstance(state[key], list):
            raise TypeError(f"`{key}` is {_short(state[key])}")
        for value in state[key]:
            # Not isinstance: JSON's true is a bool, which is an int in Python.
            if type(value) is not kind:
                raise TypeError(f"`{key}` holds {_short(value)}, expected {kind.__name__}")
    if len(set(state["paths"])) < len(state["paths"]):
        raise TypeError("`paths` names a catalog twice")
    num_written = state.get("current_index")
    return _Manifest(
        catalogs=tuple(state["paths"]),
        deleted=frozenset(state["deleted_indexes"]),
        num_written=num_written if type(num_written) is int and 0 <= num_written < _LARGEST_INDEX else None,
    )


def _read_lines(tub: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place for messages, JSON object) for each line of a catalog; only one line at a time is in memory."""
    catalog = tub / name
    try:
        file = open_regular(inside(tub, name))
    except FileNotFoundError as error:
        raise DataError(
            f"{catalog} is missing, but manifest.json names it. Copy it from the car, or remove it from `paths` there."
        ) from error
    except OSError as error:
        raise unreadable(catalog, error) from error
    with file:
        num_bytes = 0
        for number in range(1, _MAX_CATALOG_BYTES):
            try:
                line = file.readline(_MAX_LINE_BYTES + 1)
            except OSError as error:
                raise unreadable(catalog, error) from error
            if not line:
                return
            num_bytes += len(line)
            if num_bytes > _MAX_CATALOG_BYTES:
                raise DataError(f"{catalog} is larger than {_MAX_CATALOG_BYTES >> 20} MiB, which no catalog is.")
            if line.strip():
                place = f"{catalog} line {number}"
                yield place, _parse_line(line, catalog, place)


def _parse_line(line: bytes, catalog: Path, place: str) -> dict[str, Any]:
    if not line.strip(b"\0\r\n "):
        raise DataError(f"{place} holds only zero bytes: {_UNWRITTEN}. Restore the file, or cut it off there.")
    if len(line) > _MAX_LINE_BYTES:
        raise DataError(f"{place} is longer than {_MAX_LINE_BYTES >> 20} MiB, which no record is. {_RESTORE}")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{catalog} is not text ({place.removeprefix(f'{catalog} ')}: {error}). {_RESTORE}") from error
    try:
        entry = parse_json(text, place=place)
    except UserError as error:
        raise DataError(f"{error}. Restore the file, or remove the line.") from error
    if not isinstance(entry, dict):
        raise DataError(f"{place} holds {_short(entry)}, expected a JSON object. Restore the file, or remove the line.")
    return entry


def _parse_record(entry: dict[str, Any], place: str) -> Record:
    for key, kinds in _REQUIRED_KEYS.items():
        if key not in entry:
            found = shortened([name[:40] for name in sorted(entry)] or ["an empty object"], limit=12)
            raise DataError(
                f"{place} has no `{key}`, only {found}. Record with DonkeyCar's own keys, or remove the line."
            )
        if type(entry[key]) not in kinds:
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise DataError(f"{place}: `{key}` is {_short(entry[key])}, expected {expected}. Mend or remove the line.")
    if not 0 <= entry["_index"] < _LARGEST_INDEX:
        raise DataError(f"{place}: `_index` is {_short(entry['_index'])}, expected 0 or more. Mend or remove the line.")
    for key in (ANGLE_KEY, THROTTLE_KEY):
        if not abs(entry[key]) <= _COMMAND_LIMIT:
            raise DataError(
                f"{place}: `{key}` is {_short(entry[key])}, expected -1 to 1. "
                f"Mend the value, or mark frame {entry['_index']} deleted."
            )
    if not 0 <= entry["_timestamp_ms"] < _END_OF_CALENDAR_MS:
        raise DataError(
            f"{place}: `_timestamp_ms` is {_short(entry['_timestamp_ms'])}, expected milliseconds since 1970. "
            "Mend or remove the line."
        )
    return Record(
        index=entry["_index"],
        timestamp_ms=entry["_timestamp_ms"],
        session_id=_parse_session(entry.get("_session_id"), place),
        image=_parse_image_name(entry[IMAGE_KEY], place),
        angle=float(entry[ANGLE_KEY]),
        throttle=float(entry[THROTTLE_KEY]),
    )


def _parse_image_name(name: str, place: str) -> str:
    """Return ``name`` where it is a plain file name; raise ``DataError`` where it is a path to another folder."""
    if name in ("", ".", "..") or "/" in name or "\0" in name or len(name) > 255:
        raise DataError(
            f"{place}: `{IMAGE_KEY}` is {_short(name)}, expected the name of a file in images/. Nothing is read from "
            "elsewhere because a tub says so. Mend or remove the line."
        )
    return name


def _parse_session(session: Any, place: str) -> str | None:
    if session is None:
        return None
    text = str(session) if isinstance(session, str | int | float) else None
    if text is None or not text.isprintable() or len(text) > _MAX_SESSION_CHARACTERS:
        raise DataError(f"{place}: `_session_id` is {_short(session)}, expected a short text. Mend or remove the line.")
    return text


def _short(value: Any) -> str:
    """Return the text of a record's value, shortened where it is long, so that error messages stay readable."""
    return _REPR.repr(value)


_REPR = reprlib.Repr()
_REPR.maxstring = 80
