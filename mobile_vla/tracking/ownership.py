"""Let one process at a time write a run folder, and say to the others which one that is."""

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

from mobile_vla.disk import not_written
from mobile_vla.errors import ConfigError

LOCK_FILE = "run.lock"

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
_NUM_TRIES = 5
_SECONDS_BETWEEN_TRIES = 0.1
_MAX_SHOWN = 120
_MAX_RECORD_BYTES = 1 << 16
_AS_IT_IS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""No link of somebody else's is followed, and no named pipe waited for."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that has a run folder: its id and its parent's, its host, since when, and its command.

    ``pid`` is None where the owner has not written who it is.
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
    """Another process has the run folder; ``owner`` is known of it."""

    def __init__(self, folder: Path, owner: Owner) -> None:
        super().__init__(f"{folder}: {owner} has this run. Wait for it, or end it first.")
        self.owner = owner


@contextmanager
def owned(folder: Path, *, to_read: bool = False) -> Iterator[None]:
    """Keep every other process out of the run in ``folder`` while the block runs, however it ends.

    ``OwnedElsewhereError`` where one has it; ``ConfigError`` where the file system has no locks. With ``to_read`` a
    folder that cannot be written may be read: a lock that is there counts, and none is made.
    """
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
                path.unlink()  # still held, so that nobody has it in the meantime
            os.close(file)


def owner_of(folder: Path) -> Owner | None:
    """Return who has the run in ``folder`` now; None where nobody has."""
    try:
        file = os.open(folder / LOCK_FILE, os.O_RDONLY | _AS_IT_IS)
    except OSError:
        return None
    try:
        return None if lock_descriptor(file, blocking=False) else _read(file)
    except OSError:  # a file system without locks, on which nobody can have it
        return None
    finally:
        os.close(file)


def is_own(owner: Owner) -> bool:
    """Return whether ``owner`` is this process or one that it has started."""
    return owner.host == socket.gethostname() and os.getpid() in (owner.pid, owner.parent)


def _acquire(path: Path, *, to_read: bool) -> int | None:
    owner = _UNKNOWN
    for _ in range(_NUM_TRIES):
        file = _open(path, to_read=to_read)
        if file is None:
            return None
        try:
            is_locked = lock_descriptor(file, blocking=False)
            # One that its owner has just deleted locks nothing.
            if is_locked and _is_at(path, file):
                with contextlib.suppress(*[OSError] if to_read else []):
                    _write(file)
                return file
            owner = _read(file)
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        time.sleep(_SECONDS_BETWEEN_TRIES)  # somebody may only look who has it, or be about to end
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
    except (OSError, ValueError, TypeError, RecursionError):  # not yet written
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
