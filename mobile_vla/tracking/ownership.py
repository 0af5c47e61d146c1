"""Lock a run folder, so that only one process at a time writes it and others can see which process that is."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from filelock import lock_descriptor

from mobile_vla.errors import ConfigError
from mobile_vla.storage.disk import not_written

LOCK_FILE = "run.lock"

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
_NUM_TRIES = 5
_SECONDS_BETWEEN_TRIES = 0.1  # ``owner_of`` in another process takes the lock only for a moment
_MAX_SHOWN = 120
_MAX_RECORD_BYTES = 1 << 16
_AS_IT_IS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags to open a file that another person may have put there: do not follow a link, do not wait for a named pipe."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that owns a run folder: its id and its parent's, its host, the time since when, and its command.

    ``pid`` is None if the owner has not written its record.
    """

    pid: int | None
    parent: int | None
    host: str
    since: str
    command: str

    def __str__(self) -> str:
        if self.pid is None:
            return "another process"
        command = self.command if len(self.command) <= _MAX_SHOWN else f"{self.command[:_MAX_SHOWN]} ..."
        return f"process {self.pid} on {self.host}, since {self.since} ({command})"


_UNKNOWN = Owner(pid=None, parent=None, host="", since="", command="")


class OwnedElsewhereError(ConfigError):
    """Another process, ``owner``, owns the run folder."""

    def __init__(self, folder: Path, owner: Owner) -> None:
        super().__init__(f"{folder}: {owner} is using this run. Wait for it, or end it first.")
        self.owner = owner


@contextmanager
def owned(folder: Path, *, to_read: bool = False) -> Iterator[None]:
    """Lock the run in ``folder`` against all other processes while the block runs, and release it at any exit.

    Raises ``OwnedElsewhereError`` if another process owns it, and ``ConfigError`` if the file system has no locks. With
    ``to_read``, the folder may be one that cannot be written: an existing lock file is used, but none is created.
    """
    # A lock of the operating system, not just a file: it is released even if the process is killed.
    path = folder / LOCK_FILE
    try:
        file = _acquire(path, to_read=to_read)
    except OSError as error:
        raise ConfigError(_why_not(folder, error)) from error
    try:
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                path.unlink()  # before the lock is released, so that no other process can take it in between
            os.close(file)


def owner_of(folder: Path) -> Owner | None:
    """Return the current owner of the run in ``folder``; None if it has none."""
    try:
        file = os.open(folder / LOCK_FILE, os.O_RDONLY | _AS_IT_IS)
    except OSError:
        return None
    try:
        # Taking the lock succeeds only if the folder has no owner; closing the file below releases it.
        return None if lock_descriptor(file, blocking=False) else _read(file)
    except OSError:  # a file system without locks, on which no process can own it
        return None
    finally:
        os.close(file)


def is_own(owner: Owner) -> bool:
    """Return whether ``owner`` is this process or one of its child processes."""
    return owner.host == socket.gethostname() and os.getpid() in (owner.pid, owner.parent)


def _acquire(path: Path, *, to_read: bool) -> int | None:
    owner = _UNKNOWN
    for _ in range(_NUM_TRIES):
        file = _open(path, to_read=to_read)
        if file is None:
            return None
        try:
            is_locked = lock_descriptor(file, blocking=False)
            # The former owner may have deleted this file after it was opened: then its lock protects nothing.
            if is_locked and _is_at(path, file):
                with contextlib.suppress(*[OSError] if to_read else []):
                    _write(file)
                return file
            owner = _read(file)
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        time.sleep(_SECONDS_BETWEEN_TRIES)  # another process may only be in ``owner_of``, or about to end
    raise OwnedElsewhereError(path.parent, owner)


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _open(path: Path, *, to_read: bool) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | _AS_IT_IS, 0o666)
    except OSError as error:
        if not (to_read and error.errno in _NOT_WRITABLE):
            raise
    try:
        return os.open(path, os.O_RDONLY | _AS_IT_IS)
    except FileNotFoundError:
        return None


def _write(file: int) -> None:
    owner = Owner(
        pid=os.getpid(),
        parent=os.getppid(),
        host=socket.gethostname(),
        since=datetime.now().isoformat(sep=" ", timespec="seconds"),
        command=shlex.join(sys.orig_argv),
    )
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(asdict(owner)).encode(), 0)


def _read(file: int) -> Owner:
    try:
        return Owner(**json.loads(os.pread(file, _MAX_RECORD_BYTES, 0)))
    except (OSError, ValueError, TypeError, RecursionError):  # not written yet, or damaged
        return _UNKNOWN


def _why_not(folder: Path, error: OSError) -> str:
    if error.errno in _NO_LOCKS:
        return (
            f"{folder}: its file system has no locks ({error.strerror}), so that nothing would keep a second process "
            "from writing into the same run. Put the run on another one: hydra.run.dir=... (of a sweep: "
            "hydra.sweep.dir=...)."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return str(not_written(error, folder, what="the run"))
    return (
        f"{folder}: cannot be written ({error.strerror}). Make it writable, or put the run elsewhere: "
        "hydra.run.dir=... (of a sweep: hydra.sweep.dir=...)."
    )
