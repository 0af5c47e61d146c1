"""The records of a DonkeyCar tub (version 2), read from its catalogs and checked against limits before use."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobile_vla.data.sources.tubs.manifest import LARGEST_INDEX, RESTORE, UNWRITTEN, Manifest, read_manifest, short
from mobile_vla.errors import DataError, UserError
from mobile_vla.storage.disk import unreadable
from mobile_vla.text import shortened
from mobile_vla.untrusted.files import inside, open_regular, parse_json

IMAGE_KEY = "cam/image_array"
ANGLE_KEY = "user/angle"
THROTTLE_KEY = "user/throttle"
MODE_KEY = "user/mode"

_REQUIRED_KEYS: dict[str, tuple[type, ...]] = {
    "_index": (int,),
    "_timestamp_ms": (int, float),
    IMAGE_KEY: (str,),
    ANGLE_KEY: (int, float),
    THROTTLE_KEY: (int, float),
}

_READ_KEYS = frozenset([*_REQUIRED_KEYS, MODE_KEY, "_session_id"])

_HUMAN = "user"
"""The mode in which a person drives. In the others (``local``, ``local_angle``) the commands are a pilot's, and what
stands under ``user/angle`` and ``user/throttle`` is not what the car did."""

# Above 1, because a 16-bit joystick reaches -32768 and DonkeyCar divides by 32767: valid commands go down to -1.00003.
_COMMAND_LIMIT = 1.0001

# The end of the year 9999, the last that Python's datetime can represent: the time stamp becomes part of a file name.
_END_OF_CALENDAR_MS = 253_402_300_800_000

# DonkeyCar writes 1,000 lines per catalog, each of 200 bytes, or of about 10,000 bytes with lidar distances. The limits
# are far above that, and a tub that reaches all of them still needs only a few hundred MB of memory.
_MAX_CATALOG_BYTES = 64 * 2**20
_MAX_LINE_BYTES = 2**20
_MAX_RECORDS = 1_000_000  # 14 hours at 20 Hz

_MAX_SESSION_CHARACTERS = 200

_MAX_UNREAD_KEYS = 50
"""Maximum number of keys that are remembered as not read."""

_RECORDS_A_STEP = 5000
"""Number of records between two reports of progress: a tenth of a second."""


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
    """The kept ``records`` in the order of the catalogs, and what was not kept.

    ``deleted`` are the indexes that the manifest marks as deleted, ``autopilot`` those of other records that a pilot
    drove (``user/mode`` is not ``user``). ``num_deleted`` and ``num_autopilot`` count the records found with them; only
    their image names are read. ``unread_keys`` are keys of records that nothing reads, such as an IMU's.
    ``num_written`` is the number of records that were ever written according to the manifest, or None where it gives
    none. ``empty_catalog`` is the name of the last catalog if it has no record, as after a power cut; otherwise None.
    """

    path: Path
    records: tuple[Record, ...]
    deleted: frozenset[int]
    autopilot: frozenset[int]
    num_deleted: int
    num_autopilot: int
    deleted_images: frozenset[str]
    autopilot_images: frozenset[str]
    unread_keys: tuple[str, ...]
    catalogs: tuple[str, ...]
    empty_catalog: str | None
    num_written: int | None

    @property
    def num_records(self) -> int:
        """The number of records that were found."""
        return len(self.records) + self.num_deleted + self.num_autopilot

    def image_path(self, record: Record) -> Path:
        """Return the path of the frame's image."""
        return self.path / "images" / record.image


@dataclass(kw_only=True)
class _Sorted:
    """The records read so far, sorted by whether they can be used."""

    records: list[Record] = field(default_factory=list)
    autopilot: set[int] = field(default_factory=set)
    deleted_images: set[str] = field(default_factory=set)
    autopilot_images: set[str] = field(default_factory=set)
    unread_keys: set[str] = field(default_factory=set)
    num_deleted: int = 0
    num_autopilot: int = 0

    @property
    def num_found(self) -> int:
        return len(self.records) + self.num_deleted + self.num_autopilot

    def add(self, entry: dict[str, Any], place: str, manifest: Manifest) -> None:
        if len(self.unread_keys) < _MAX_UNREAD_KEYS:
            self.unread_keys |= entry.keys() - _READ_KEYS
        index, image = entry.get("_index"), entry.get(IMAGE_KEY)
        if isinstance(index, int) and index in manifest.deleted:
            self.num_deleted += 1
            self.deleted_images |= {image} if isinstance(image, str) else set()
        elif _is_autopilot(entry.get(MODE_KEY), place):
            self.num_autopilot += 1
            self.autopilot |= {index} if isinstance(index, int) else set()
            self.autopilot_images |= {image} if isinstance(image, str) else set()
        else:
            self.records.append(_parse_record(entry, place))


def read_tub(path: Path) -> Tub:
    """Return the tub at ``path``; only the catalogs that ``manifest.json`` names are read.

    Tubs can contain leftover files that only look like catalogs. Raises ``UserError``, with file and line, for anything
    that is missing, broken, out of range, or outside the tub.
    """
    steps = read_tub_in_steps(path)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def read_tub_in_steps(path: Path) -> Generator[None, None, Tub]:
    """Return what ``read_tub`` does; each yield reports progress."""
    manifest = read_manifest(path)
    found = _Sorted()
    empty: str | None = None
    for catalog in manifest.catalogs:
        if empty is not None:  # only the last catalog may be empty, as after a power cut
            raise DataError(f"{path / empty} holds no record: {UNWRITTEN}. {RESTORE}")
        num_before = found.num_found
        for place, entry in _read_lines(path, catalog):
            if found.num_found == _MAX_RECORDS:
                raise DataError(f"{place}: this tub has more than {_MAX_RECORDS:,} records. Split it into several.")
            found.add(entry, place, manifest)
            if found.num_found % _RECORDS_A_STEP == 0:
                yield
        if found.num_found == num_before:
            empty = catalog
    return Tub(
        path=path,
        records=tuple(found.records),
        deleted=manifest.deleted,
        autopilot=frozenset(found.autopilot),
        num_deleted=found.num_deleted,
        num_autopilot=found.num_autopilot,
        deleted_images=frozenset(found.deleted_images),
        autopilot_images=frozenset(found.autopilot_images),
        unread_keys=tuple(sorted(found.unread_keys)),
        catalogs=manifest.catalogs,
        empty_catalog=empty,
        num_written=manifest.num_written,
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
        raise DataError(f"{place} holds only zero bytes: {UNWRITTEN}. Restore the file, or cut it off there.")
    if len(line) > _MAX_LINE_BYTES:
        raise DataError(f"{place} is longer than {_MAX_LINE_BYTES >> 20} MiB, which no record is. {RESTORE}")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{catalog} is not text ({place.removeprefix(f'{catalog} ')}: {error}). {RESTORE}") from error
    try:
        entry = parse_json(text, place=place)
    except UserError as error:
        raise DataError(f"{error}. Restore the file, or remove the line.") from error
    if not isinstance(entry, dict):
        raise DataError(f"{place} holds {short(entry)}, expected a JSON object. Restore the file, or remove the line.")
    return entry


def _is_autopilot(mode: Any, place: str) -> bool:
    """Return whether a pilot drove; a record without a mode (None), as early versions wrote them, is a person's."""
    if mode is not None and not isinstance(mode, str):
        raise DataError(f"{place}: `{MODE_KEY}` is {short(mode)}, expected str. Mend or remove the line.")
    return mode is not None and mode != _HUMAN


def _parse_record(entry: dict[str, Any], place: str) -> Record:
    for key, kinds in _REQUIRED_KEYS.items():
        if key not in entry:
            found = shortened([name[:40] for name in sorted(entry)] or ["an empty object"], limit=12)
            raise DataError(
                f"{place} has no `{key}`, only {found}. Record with DonkeyCar's own keys, or remove the line."
            )
        if type(entry[key]) not in kinds:
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise DataError(f"{place}: `{key}` is {short(entry[key])}, expected {expected}. Mend or remove the line.")
    if not 0 <= entry["_index"] < LARGEST_INDEX:
        raise DataError(f"{place}: `_index` is {short(entry['_index'])}, expected 0 or more. Mend or remove the line.")
    for key in (ANGLE_KEY, THROTTLE_KEY):
        if not abs(entry[key]) <= _COMMAND_LIMIT:
            raise DataError(
                f"{place}: `{key}` is {short(entry[key])}, expected -1 to 1. "
                f"Mend the value, or mark frame {entry['_index']} deleted."
            )
    if not 0 <= entry["_timestamp_ms"] < _END_OF_CALENDAR_MS:
        raise DataError(
            f"{place}: `_timestamp_ms` is {short(entry['_timestamp_ms'])}, expected milliseconds since 1970. "
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
            f"{place}: `{IMAGE_KEY}` is {short(name)}, expected the name of a file in images/. Nothing is read from "
            "elsewhere because a tub says so. Mend or remove the line."
        )
    return name


def _parse_session(session: Any, place: str) -> str | None:
    if session is None:
        return None
    text = str(session) if isinstance(session, str | int | float) else None
    if text is None or not text.isprintable() or len(text) > _MAX_SESSION_CHARACTERS:
        raise DataError(f"{place}: `_session_id` is {short(session)}, expected a short text. Mend or remove the line.")
    return text
