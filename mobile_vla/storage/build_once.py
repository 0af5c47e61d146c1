"""Derived folders (data set, frame cache) that are built once for all runs, and rebuilt where they are damaged."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from mobile_vla.errors import ConfigError, UserError
from mobile_vla.storage.disk import remove, storage_errors
from mobile_vla.text import sizes

_log = logging.getLogger(__name__)

RECORD_FILE = "complete.json"
_FORMAT = 2
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return ``folder``; call ``build(temporary_folder)`` first where it does not exist or has changed.

    The complete folder is renamed to its name at the end, with a record of its files' sizes, times and digests in
    ``complete.json``. Where the files differ from this record later, the folder is built again and the reason is
    logged. Where only the times of a file differ, as after a copy, its digest is computed and compared. Runs that start
    together wait for the first one and then use its result. The files that a killed run left are removed by the next
    run. Raises ``UserError`` where the folder cannot be written or locked.
    """
    if _damage(folder) is None:  # without the lock, so that a complete folder also works on a read-only disk
        return folder
    temporary = folder.with_name(folder.name + ".partial")
    with storage_errors(folder, what="what is derived from the data", partial=temporary):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(folder.name + ".lock")):
            damage = _damage(folder)
            if damage is None:  # another run built it while this one waited for the lock
                return folder
            remove(temporary)
            temporary.mkdir()
            try:
                if folder.exists() or folder.is_symlink():
                    _log.warning("%s: %s. It is built again.", folder, damage)
                build(temporary)
                (temporary / RECORD_FILE).write_text(json.dumps({"format": _FORMAT, "files": _record_of(temporary)}))
                _put_away(folder)
                temporary.rename(folder)
            except BaseException:
                remove(temporary)  # otherwise a full disk would stay full
                raise
    return folder


def is_built(folder: Path) -> bool:
    """Return whether ``folder`` was built to its end and is not damaged."""
    return folder.is_dir() and _damage(folder) is None


def check_free_space(folder: Path, num_bytes: int, *, what: str, remedy: str) -> None:
    """Raise ``ConfigError`` where ``num_bytes`` do not fit on the disk of ``folder``, which is part of the cache."""
    num_free = shutil.disk_usage(folder).free
    if num_bytes > num_free:
        need, free = sizes(num_bytes, num_free)
        raise ConfigError(
            f"dataset.cache_dir={folder.parent}: {what} need {need} and {free} are free. Make room, move the cache, or "
            f"{remedy}."
        )


def _damage(folder: Path) -> str | None:
    """Return how ``folder`` differs from what was built; None where it does not."""
    if not folder.is_dir():
        return "is a file" if folder.exists() else "is missing"
    try:
        record = json.loads((folder / RECORD_FILE).read_bytes())
        is_known = record["format"] == _FORMAT
        expected = {str(name): _Facts(*facts) for name, facts in record["files"].items()} if is_known else {}
    except FileNotFoundError:
        return f"has no {RECORD_FILE} (an earlier version, or removed)"
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return f"{RECORD_FILE} is damaged"
    if not is_known:
        return f"{RECORD_FILE} is of another format"
    found = _files_in(folder)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} was added"
        size, was = found[name].st_size, expected[name]
        if size != was.num_bytes:
            return f"{name} has changed ({size} bytes, {was.num_bytes} when it was built)"
        # The times of modification and of status change. The second is set by the file system, and no program can set
        # it back, so an equal pair means that the file was not written and need not be read.
        is_untouched = (found[name].st_mtime_ns, found[name].st_ctime_ns) == (was.mtime_ns, was.ctime_ns)
        if not is_untouched and digest_of(folder / name) != was.digest:
            return f"{name} has changed (it has another digest than when it was built)"
    return None


class _Facts(NamedTuple):
    """The recorded properties of a file."""

    num_bytes: int
    mtime_ns: int
    ctime_ns: int
    digest: str


def _record_of(folder: Path) -> dict[str, _Facts]:
    return {
        name: _Facts(status.st_size, status.st_mtime_ns, status.st_ctime_ns, digest_of(folder / name))
        for name, status in _files_in(folder).items()
    }


def digest_of(path: Path) -> str:
    """Return a BLAKE2b digest (128 bits, in hexadecimal) of the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).hexdigest()


def _files_in(folder: Path) -> dict[str, os.stat_result]:
    """Return the status of each file, except hidden files and the record itself."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if name == Path(RECORD_FILE) or path.is_dir() or any(part.startswith(".") for part in name.parts):
            continue
        found[str(name)] = path.lstat()
    return found


def _put_away(folder: Path) -> None:
    """Remove the damaged ``folder``; a folder with added files is only renamed, because they may be a user's own."""
    damage = _damage(folder)
    if damage is not None and damage.endswith(" was added"):
        aside = folder.with_name(f"{folder.name}.set_aside_{time.time_ns()}")
        folder.rename(aside)
        _log.warning("%s: is kept as %s; remove it if nothing in it is yours.", folder, aside)
    else:
        remove(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock the file ``path`` for the block; raise ``UserError`` where the file system has no locks."""
    lock = FileLock(path)
    try:
        lock.acquire()
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        raise UserError(
            f"{path.parent}: its file system has no locks, so runs that start together could spoil what they share. "
            "Set dataset.cache_dir and dataset.datasets_dir to a folder on another disk."
        ) from error
    try:
        yield
    finally:
        lock.release()
