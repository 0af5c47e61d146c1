"""Atomic writes, and error messages that name the cause where a disk fails."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mobile_vla.errors import DataError, UserError
from mobile_vla.storage.disk_sync import sync_file, sync_folder
from mobile_vla.text import sizes

_GONE = ("the network disk does not answer, or its folder is stale", "Mount it again, then repeat this.")

_CAUSES: dict[int, tuple[str, str]] = {
    errno.EACCES: ("there is no permission", "Change it (`ls -l` and `chmod`, on every folder of the path)."),
    errno.EPERM: ("it is not permitted", "Look whether it is locked (`lsattr`) or belongs to another account."),
    errno.EIO: ("the disk reports an input/output error", "It may be failing: look at the system log, then save it."),
    errno.ENXIO: ("it is a socket and no file, or its disk is gone", "Remove it, or connect the disk again."),
    errno.ENODEV: ("its disk is gone", "Connect the disk again, then repeat this."),
    **dict.fromkeys((errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EREMOTEIO, errno.EHOSTDOWN), _GONE),
    errno.EMFILE: ("this process has too many files open", "Raise the limit (`ulimit -n 4096`), then repeat this."),
    errno.ENFILE: ("all programs together have too many files open", "End some of them, then repeat this."),
    errno.ENOMEM: ("memory is used up", "End other programs, then repeat this."),
    errno.ENOENT: ("it is not there", "Look whether its disk is mounted and nothing moved or removed it."),
    errno.EISDIR: ("a folder of that name is there", "Remove it, or give another path."),
    errno.ENOTDIR: ("a part of its path is a file and no folder", "Give another path."),
    errno.EEXIST: ("a file of that name is there already", "Give another path, or remove the file first."),
    errno.ELOOP: ("its links lead in a circle", "Remove the link."),
    errno.ENAMETOOLONG: ("its name is too long", "Give a shorter one."),
}
"""By error number: its meaning and what the user can do, for reading and for writing."""

_OF_THE_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EISDIR)
"""Error numbers that a path given by the user can cause, independent of what was to be written there."""

_ROOM = "Make room, or give a place on another disk."

_NUMBER_IN_TEXT = re.compile(r"(?:os error |Errno |errno = )(\d+)")
"""Finds the error number in a message: HDF5 and safetensors give it only in the text."""


@contextmanager
def storage_errors(
    place: Path, *, what: str, num_bytes: int | Callable[[], int] | None = None, partial: Path | None = None
) -> Iterator[None]:
    """Convert the errors of a full, read-only or failing disk inside the block to a ``UserError``.

    The message names ``place``, ``what`` was to be written ("the episodes"), the needed and the free space, the cause,
    and what to do. ``num_bytes`` is the needed space, or a function that estimates it after a failure. ``partial`` is
    the file or folder that the caller removes after a failure: its bytes count as free. Other errors are raised
    unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        sentence = not_written(error, place, what=what, num_bytes=num_bytes, partial=partial)
        if sentence is None:
            raise
        raise UserError(sentence) from error


@contextmanager
def unwritable_errors(place: Path) -> Iterator[None]:
    """Convert the errors of a full or read-only disk and of missing permission inside the block to a ``UserError``.

    For the top level of a program, where it is not known what was written. The message names the file of the error, or
    ``place`` where the error has none.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = _error_number(error)
        if number not in _OF_THE_PLACE:
            raise
        name = getattr(error, "filename2", None) or getattr(error, "filename", None)  # filename2: a rename's target
        at = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else place
        if number in (errno.EACCES, errno.EISDIR):
            finding, remedy = _CAUSES[number]
            raise UserError(f"{at}: cannot be opened: {finding}. {remedy}") from error
        num_bytes = error.num_bytes if isinstance(error, NotWrittenError) else None
        raise UserError(str(not_written(error, at, what="this file", num_bytes=num_bytes))) from error


def allocate(path: Path, num_bytes: int) -> None:
    """Create the file ``path`` of ``num_bytes`` zeros with its disk space allocated, for a memory map.

    Raises ``OSError`` where the disk is full. ``truncate`` alone makes a sparse file: writing to a memory map of it
    would end the process with SIGBUS once the disk is full.
    """
    with path.open("wb") as file:
        if num_bytes and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        file.truncate(num_bytes)


class NotWrittenError(OSError):
    """A file of ``num_bytes`` could not be written; the file that was there before is unchanged."""

    # Not an argument of the constructor: the error could then not be pickled, and processes that write must send it.
    num_bytes: int

    @classmethod
    def of(cls, error: OSError, path: Path, *, num_bytes: int) -> NotWrittenError:
        """Return ``error`` as the error that ``path`` could not be written."""
        failure = cls(error.errno, error.strerror, str(path))
        failure.num_bytes = num_bytes
        return failure


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Write ``content`` so that a reader sees the old or the new file, never a part of it, even after a power cut.

    Raises ``NotWrittenError`` where the disk does not accept it. The file is synced before the rename, because many
    file systems report a full disk or quota only then.
    """
    # Surrogates, which JSON and file names may contain, cannot be encoded: they are written as text such as \\udcff.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise NotWrittenError.of(error, path, num_bytes=len(data)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with its content; do nothing where ``path`` does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error for a file or folder that could not be read, with the cause in words and what to do."""
    finding, remedy = _CAUSES.get(error.errno or 0, (error.strerror or str(error), "Look at its disk."))
    return DataError(f"{path}: cannot be read: {finding}. {remedy}")


def bytes_in(place: Path) -> int:
    """Return the total size in bytes of a file, or of all files in a folder; 0 where there is none."""
    paths = place.rglob("*") if place.is_dir() else [place]
    return sum(path.stat().st_size for path in paths if path.is_file())


def not_written(
    error: Exception,
    place: Path,
    *,
    what: str,
    num_bytes: int | Callable[[], int] | None = None,
    partial: Path | None = None,
) -> str | None:
    """Return the message of ``storage_errors``; None where ``error`` is not an error of the disk."""
    number = _error_number(error)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        about, need = ("about ", num_bytes()) if callable(num_bytes) else ("", num_bytes)
        num_partial = 0 if partial is None else bytes_in(partial)
        sentence = _full_sentence(number, place, need, about=about, num_partial=num_partial)
        return f"{place}: {what} cannot be written: {sentence}"
    if number == errno.EROFS:
        return f"{place}: {what} cannot be written: the file system is read-only. Give a place that can be written."
    if number not in _CAUSES:
        return None
    finding, remedy = _CAUSES[number]
    at = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    return f"{place}: {what} cannot be written: {finding}{at}. {remedy}"


def _full_sentence(number: int, place: Path, need: int | None, *, about: str, num_partial: int) -> str:
    """Return the part of the message on needed and free space; the folder of ``place`` may not exist yet."""
    there = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free + num_partial
    if number == errno.EFBIG:
        size = "it" if need is None else f"{about}{sizes(need)[0]}"
        return f"{size} is more than a file may hold there (`ulimit -f`). {_ROOM}"
    # A disk can have free bytes but no free inode. Some file systems (btrfs) report 0 inodes in all: no limit.
    files = os.statvfs(there)
    if number == errno.ENOSPC and files.f_files > 0 and files.f_favail == 0:
        return "the disk has no room for one more file. Remove some."
    full = "your quota on this disk is used up" if number == errno.EDQUOT else "the disk is full"
    # Where the need now fits, others have freed space meanwhile: "1 GB needed and 2 GB free" would only confuse.
    if need is None or (need <= free and number == errno.ENOSPC):
        return f"{full} ({sizes(free)[0]} are free now). {_ROOM}"
    need_text, free_text = sizes(need, free)
    return f"{full}: {about}{need_text} are needed and {free_text} are free. {_ROOM}"


def _error_number(error: Exception) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER_IN_TEXT.search(str(error))
    return int(found[1]) if found else None
