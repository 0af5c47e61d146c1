"""Read and write the ``.wandb`` file in which W&B's client records a run, and from which ``wandb sync`` uploads it.

The format is LevelDB's log format after a header of seven bytes: blocks of 32 KiB that contain chunks; each chunk has a
checksum, a length, a type and the data. A record is a protobuf message in one whole chunk, or in a first chunk, middle
ones and a last one. This module is needed because wandb has no command that leaves out rows that the server has.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import open_regular

Record: TypeAlias = Any
"""A ``wandb.proto.wandb_internal_pb2.Record``; wandb chooses its class by the version of protobuf."""

_HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_BLOCK = 32 * 1024
_CHUNK = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class UnreadableRecordingError(UserError):
    """A recording cannot be read; the message names it and the reason."""


@dataclass(frozen=True, kw_only=True)
class TransactionLog:
    """The records of one file, in order; if a kill or a full disk cut it off, those before the damage."""

    records: tuple[Record, ...]

    @property
    def run(self) -> Record:
        """The record with the run's id, project and settings."""
        return next(record for record in self.records if record.WhichOneof("record_type") == "run")

    @property
    def has_ended(self) -> bool:
        """Whether the end of the run was recorded."""
        return any(map(is_end, self.records))

    @property
    def timestamps(self) -> tuple[float, ...]:
        """The time at which W&B's client got each row, in seconds since 1970; no two rows of a run have the same."""
        return tuple(_timestamp(record) for record in self.records if is_row(record))


def is_row(record: Record) -> bool:
    """Return whether the record is a row of the run's history."""
    return record.WhichOneof("record_type") == "history"


def is_end(record: Record) -> bool:
    """Return whether the record is the end of the run, with its exit code."""
    return record.WhichOneof("record_type") == "exit"


def read_log(path: Path) -> TransactionLog:
    """Return the complete records of ``path``.

    Raises UnreadableRecordingError if it is not a transaction log, or if it ends before the record of the run.
    """
    from google.protobuf.message import DecodeError

    remedy = f"If its run has ended, move {path.parent} away and sync again."
    try:
        with open_regular(path) as file:
            content = file.read()
        if content and not _HEADER.startswith(content[: len(_HEADER)]):
            raise UnreadableRecordingError(f"{path} cannot be read (bad header). {remedy}")
        records = tuple(map(_message_type().FromString, _records(content)))
    except (OSError, DecodeError) as error:
        raise UnreadableRecordingError(f"{path} cannot be read ({error}). {remedy}") from error
    if not any(record.WhichOneof("record_type") == "run" for record in records):
        raise UnreadableRecordingError(f"{path} has no record of a run: it ends before it. {remedy}")
    return TransactionLog(records=records)


def end_log(path: Path, *, exit_code: int) -> None:
    """Rewrite ``path`` with its complete records and an end of the run, if wandb's service recorded no end.

    Raises OSError, and UnreadableRecordingError as `read_log` does.
    """
    log = read_log(path)
    if not log.has_ended:
        end = _message_type()()
        end.exit.exit_code = exit_code
        whole = path.with_name(f"{path.name}.tmp")
        write_log(whole, [*log.records, end])
        whole.replace(path)


def write_log(path: Path, records: Iterable[Record]) -> None:
    """Write ``records`` as a new file. Raises OSError."""
    content = bytearray(_HEADER)
    for record in records:
        _append(content, record.SerializeToString())
    path.write_bytes(content)


def _records(content: bytes) -> Iterator[bytes]:
    """Yield the records up to the end, or up to the first chunk that is incomplete or damaged."""
    position, begun = len(_HEADER), b""
    while position + _CHUNK.size <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < _CHUNK.size:  # too short for a chunk: the rest of a block is filled with zeros
            position += left
            continue
        checksum, length, kind = _CHUNK.unpack_from(content, position)
        part = content[position + _CHUNK.size : position + _CHUNK.size + length]
        if len(part) < length or checksum != zlib.crc32(bytes([kind]) + part):
            return
        position += _CHUNK.size + length
        begun = part if kind in (_WHOLE, _FIRST) else begun + part
        if kind in (_WHOLE, _LAST):
            yield begun


def _append(content: bytearray, record: bytes) -> None:
    is_first = True
    while True:
        left = _BLOCK - len(content) % _BLOCK
        if left < _CHUNK.size:
            content += bytes(left)
            continue
        part, record = record[: left - _CHUNK.size], record[left - _CHUNK.size :]
        kind = (_FIRST if record else _WHOLE) if is_first else (_MIDDLE if record else _LAST)
        content += _CHUNK.pack(zlib.crc32(bytes([kind]) + part), len(part), kind) + part
        if not record:
            return
        is_first = False


def _message_type() -> Any:
    from wandb.proto import wandb_internal_pb2

    # By name: protobuf creates the class at import, so that type checkers do not know it.
    return getattr(wandb_internal_pb2, "Record")  # noqa: B009


def _timestamp(record: Record) -> float:
    return next(
        (float(item.value_json) for item in record.history.item if "_timestamp" in (item.key, *item.nested_key)), 0.0
    )
