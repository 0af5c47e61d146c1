"""Safe reading of files from other people: only regular files, only inside their folder, only up to a size limit."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from mobile_vla.errors import UserError

MAX_RECORD_BYTES = 16 * 2**20
"""Maximum size of a JSON or YAML record.

It is far more than any record of this package, and the parsed objects still need only a few hundred MB.
"""

_LFS_POINTER = b"version https://git-lfs"

_MAX_LINE_BYTES = 2**20

_MAX_LOG_LINES, _MAX_LOG_BYTES = 500_000, 64 * 2**20
"""Limits for a log that is only plotted: 19,000 evaluations, or 110,000 other rows."""

_MAX_TABLE_LINES, _MAX_TABLE_BYTES = 1_000_000, 128 * 2**20
"""Limits for a table: a million val windows are 28 hours at 10 frames per second."""


def inside(folder: Path, name: str | Path) -> Path:
    """Return the path ``name`` in ``folder`` with links resolved; raise ``UserError`` where it is outside ``folder``.

    The path need not exist. Every name that is read from a run folder, an export, a study or a tub must pass this check
    before it is opened.
    """
    try:
        root = folder.resolve()
        path = (root / name).resolve()
    except (ValueError, RuntimeError, OSError) as error:  # a NUL byte, a loop of links, a name too long
        raise UserError(f"{folder}: names {str(name)[:200]!r}, which is no file name ({error})") from error
    if not path.is_relative_to(root):
        raise UserError(
            f"{folder}: names {str(name)[:200]!r}, which lies outside of it ({path}); expected a file inside. Nothing "
            "is read from elsewhere because a folder says so: copy the file into it if it belongs there."
        )
    return path


def check_links(folder: Path, *, root: Path | None = None) -> None:
    """Raise ``UserError`` where ``folder`` or a link in it, at any depth, is outside ``root`` (None: ``folder``)."""
    if root is not None:
        inside(root, folder.absolute())
    for where, folders, files in os.walk(folder):  # links are not followed
        for path in (Path(where, name).absolute() for name in (*folders, *files)):
            if path.is_symlink():
                inside(root or folder, path)


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield ``folder`` and every subfolder, each with all names in it; links are not followed.

    Raises ``UserError`` where a folder cannot be read, because its content would be left out without notice.
    """

    def refuse(error: OSError) -> None:
        if error.errno == errno.ENOENT:  # removed in the meantime, or never existed: nothing is left out
            return
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}), so what it holds would be left out. Make it "
            "readable, move it away, or give another folder."
        ) from error

    for where, folders, files in os.walk(folder, onerror=refuse):
        yield Path(where), [*folders, *files]


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; raise ``UserError`` where ``path`` is a named pipe, a device or a folder.

    These are not read, and the call does not wait for them. Raises ``OSError`` as ``open`` does.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer must not block
    try:
        # The descriptor is checked and not the path, which could be replaced between a check and the opening.
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
            raise UserError(f"{path}: is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file; remove it")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_limited(path: Path, *, max_bytes: int = MAX_RECORD_BYTES) -> bytes:
    """Return the content of a regular file; raise ``UserError`` where it is larger than ``max_bytes``."""
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)  # not the size from its status: the file may grow, or be a file of /proc
    if len(content) > max_bytes:
        raise UserError(f"{path}: is larger than {max_bytes / 2**20:.0f} MiB, which no such file is; it is not read")
    return content


def lfs_pointer(begin: bytes, *, instead_of: str) -> str | None:
    """Return what is wrong with a file that begins with ``begin`` and is a Git LFS pointer; None where it is none.

    The text goes after the file's name; ``instead_of`` is what was expected, such as "the episode".
    """
    if not begin.startswith(_LFS_POINTER):
        return None
    return f"is a Git LFS pointer, not {instead_of}. Run `git lfs pull` where it came from."


def lines_of(
    path: Path, *, max_lines: int = _MAX_LOG_LINES, max_bytes: int = _MAX_LOG_BYTES
) -> Iterator[tuple[str, bytes]]:
    """Yield the place (``file: line N``) and the content, with its line end, of each line of a regular file.

    Raises ``UserError`` where a line, the number of lines or the size of the file exceeds what a run's logs and tables
    can have.
    """
    num_bytes = 0
    with open_regular(path) as file:
        for number in itertools.count(1):
            line = file.readline(_MAX_LINE_BYTES + 1)
            if not line:
                return
            place, num_bytes = f"{path}: line {number}", num_bytes + len(line)
            if len(line) > _MAX_LINE_BYTES or num_bytes > max_bytes or number > max_lines:
                raise UserError(
                    f"{place} goes beyond what such a file holds: {_MAX_LINE_BYTES / 2**20:.0f} MiB a line, "
                    f"{max_lines:,} lines, {max_bytes / 2**20:.0f} MiB; it is not read"
                )
            yield place, line


def csv_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place and the fields by column of each row of a CSV file.

    Raises ``UserError`` as ``lines_of`` does, and where a line is not valid CSV.
    """
    places: list[str] = []

    def texts() -> Iterator[str]:
        for place, line in lines_of(path, max_lines=_MAX_TABLE_LINES, max_bytes=_MAX_TABLE_BYTES):
            places[:] = [place]
            yield line.decode("utf-8")

    try:
        for row in csv.DictReader(texts(), strict=True):
            yield places[0], row
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{places[0] if places else path}: is no line of a CSV file ({error})") from error


def read_json(path: Path, *, max_bytes: int = MAX_RECORD_BYTES) -> Any:
    """Return the content of a JSON file; raise ``UserError``, which names the file, where it cannot be used."""
    return parse_json(read_limited(path, max_bytes=max_bytes), place=str(path))


def parse_row(text: bytes, *, place: str) -> dict[str, Any]:
    """Return the row in a line of ``metrics.jsonl``; raise ``UserError`` where it has no integer ``step``."""
    row = parse_json(text, place=place)
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        raise UserError(f"{place}: has no step; expected a row as a run logs it")
    return row


def parse_json(text: str | bytes, *, place: str) -> Any:
    """Return the content of the JSON ``text``; raise ``UserError``, which names ``place`` (file, line), on errors.

    Nesting that is too deep and numbers that Python does not accept are errors too. NaN and Infinity are accepted here;
    the caller must check for them.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UserError(f"{place}: is nested too deeply to be a record of ours") from error
    except ValueError as error:  # not UTF-8, not JSON, an integer of thousands of digits
        raise UserError(f"{place}: is not JSON ({error})") from error
