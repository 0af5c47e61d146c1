"""Read the records of a DonkeyCar tub (version 2)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobile_vla.errors import DataError

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

# A 16-bit joystick reaches -32768 and DonkeyCar divides by 32767, so honest commands pass -1 by 3e-5.
_COMMAND_LIMIT = 1.0001

_END_OF_CALENDAR_MS = 253_402_300_800_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One frame: ``angle`` (+ is right) and ``throttle`` (+ is forward) in [-1, 1], ``image`` a file in ``images/``."""

    index: int
    timestamp_ms: float
    session_id: str | None
    image: str
    angle: float
    throttle: float


@dataclass(frozen=True, kw_only=True)
class Tub:
    """The kept ``records`` in the order of the catalogs, and the indexes that the manifest marks as deleted.

    ``num_deleted`` counts the records found under those indexes; they are not looked at any further.
    """

    path: Path
    records: tuple[Record, ...]
    deleted: frozenset[int]
    num_deleted: int

    def image_path(self, record: Record) -> Path:
        """Return where the frame's image is."""
        return self.path / "images" / record.image


def read_tub(path: Path) -> Tub:
    """Read the catalogs that ``manifest.json`` names, and no other (tubs hold leftovers that only look like catalogs).

    Raises DataError, with file and line, for what is missing, broken or out of range.
    """
    catalogs, deleted = _read_manifest(path / "manifest.json")
    records: list[Record] = []
    num_deleted = 0
    for catalog in catalogs:
        for place, entry in _read_lines(path / catalog):
            index = entry.get("_index")
            if isinstance(index, int) and index in deleted:
                num_deleted += 1
            else:
                records.append(_parse_record(entry, place))
    return Tub(path=path, records=tuple(records), deleted=deleted, num_deleted=num_deleted)


def _read_manifest(path: Path) -> tuple[list[str], frozenset[int]]:
    """Return the catalogs' file names and the deleted indexes: they stand in the fifth of the manifest's JSON lines."""
    if not path.is_file():
        raise DataError(
            f"{path.parent} is not a DonkeyCar tub: it has no manifest.json. Name the folder that holds one."
        )
    remedy = "Restore the file from the car or a backup."
    lines = _decode(path).split("\n")
    if len(lines) < 5:
        raise DataError(f"{path} cannot be read: {len(lines)} lines were found and 5 expected. {remedy}")
    try:
        state = json.loads(lines[4])
        catalogs, deleted = [str(name) for name in state["paths"]], frozenset(map(int, state["deleted_indexes"]))
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read: line 5 is no JSON object with lists `paths` and `deleted_indexes` ({error!r}). "
            f"{remedy}"
        ) from error
    return catalogs, deleted


def _read_lines(catalog: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place for messages, JSON object) for each line of a catalog."""
    if not catalog.is_file():
        raise DataError(
            f"{catalog} is missing, but manifest.json names it. Copy it from the car, or remove it from `paths` there."
        )
    for number, line in enumerate(_decode(catalog).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{catalog} line {number}"
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place} is not JSON ({error}). Restore the file, or remove the line.") from error
        if not isinstance(entry, dict):
            raise DataError(f"{place} holds {entry!r}, expected a JSON object. Restore the file, or remove the line.")
        yield place, entry


def _decode(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text ({error}). Restore the file from the car or a backup.") from error


def _parse_record(entry: dict[str, Any], place: str) -> Record:
    for key, kinds in _REQUIRED_KEYS.items():
        if key not in entry:
            raise DataError(
                f"{place} has no `{key}`, only {', '.join(sorted(entry))}. "
                "Record with DonkeyCar's own keys, or remove the line."
            )
        if type(entry[key]) not in kinds:
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise DataError(f"{place}: `{key}` is {entry[key]!r}, expected {expected}. Mend or remove the line.")
    for key in (ANGLE_KEY, THROTTLE_KEY):
        if not abs(entry[key]) <= _COMMAND_LIMIT:
            raise DataError(
                f"{place}: `{key}` is {entry[key]}, expected -1 to 1. "
                f"Mend the value, or mark frame {entry['_index']} deleted."
            )
    if not 0 <= entry["_timestamp_ms"] < _END_OF_CALENDAR_MS:
        raise DataError(
            f"{place}: `_timestamp_ms` is {entry['_timestamp_ms']}, expected milliseconds since 1970. "
            "Mend or remove the line."
        )
    session = entry.get("_session_id")
    return Record(
        index=entry["_index"],
        timestamp_ms=entry["_timestamp_ms"],
        session_id=None if session is None else str(session),
        image=entry[IMAGE_KEY],
        angle=float(entry[ANGLE_KEY]),
        throttle=float(entry[THROTTLE_KEY]),
    )
