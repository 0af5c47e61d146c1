"""Error messages for what h5py found in a file, or for what prevented it from reading."""

from __future__ import annotations

import errno
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import h5py

from mobile_vla.errors import DataError, UnreadableNowError

_H5PY_ERRORS = (OSError, KeyError, RuntimeError, TypeError, ValueError, zlib.error)
"""The exceptions of h5py and zlib on damaged files, found by changing every byte of a file in turn."""

_REMEDIES = {
    "cannot be locked: a program holds it open for writing, most likely the recorder. Close that program. Where none "
    "runs, the file system kept a lock of a dead one: set HDF5_USE_FILE_LOCKING=FALSE": (errno.EAGAIN,),
    "may not be read by this user. Ask its owner, or give the permission (chmod u+r)": (errno.EACCES, errno.EPERM),
    "cannot be opened while so many other files are open. Close other programs, or raise the limit (ulimit -n)": (
        errno.EMFILE,
        errno.ENFILE,
    ),
    "lies on a file system without locks. Set HDF5_USE_FILE_LOCKING=FALSE when nothing writes to it": (
        errno.ENOLCK,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
    ),
    "is gone since its folder was read. Start again when nothing moves files": (errno.ENOENT,),
    "is on a disk or a network share that fails or is gone. Look at the disk or mount the share again, then start "
    "again": (
        errno.EIO,
        errno.ESTALE,
        errno.ENODEV,
        errno.ENXIO,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
    ),
}
_NOT_CLOSED = (
    "is open for writing elsewhere, or the program that wrote it was killed. Close that program; where it was killed, "
    "run `h5clear -s` on a copy"
)


@contextmanager
def report_damage(finding: str) -> Iterator[None]:
    """Convert the exceptions of h5py inside the block to a ``DataError`` that begins with ``finding``.

    ``finding`` has the form "PATH: what is wrong". Where the cause is outside the file, the error is an
    ``UnreadableNowError`` with that cause instead, so that a good file is never called corrupt.
    """
    try:
        yield
    except DataError:
        raise
    except _H5PY_ERRORS as error:
        remedy = outside_cause(error)
        if remedy is not None:
            path, _, rest = finding.partition(": ")
            key = f"{rest.split(' cannot')[0]}, " if rest.startswith("key ") else ""
            raise UnreadableNowError(f"{path}: {key}{remedy}.") from error
        cause = (str(error).strip("'").splitlines() or [type(error).__name__])[0]
        raise DataError(f"{finding} ({cause}). Copy the file again or remove it.") from error


def outside_cause(error: BaseException) -> str | None:
    """Return the cause outside the file that prevents reading, and what to do; None where the file itself is bad.

    The text includes the operating system's message for the error number. HDF5 often passes that number on only within
    the text of its own message.
    """
    text = str(error)
    if "already open for" in text:
        return f"{_NOT_CLOSED} (HDF5: {text.splitlines()[0]})"
    number = error.errno if isinstance(error, OSError) else None
    told = re.search(r"errno = (\d+)", text)
    if number is None and told:
        number = int(told[1])
    for remedy, numbers in _REMEDIES.items():
        if number in numbers:
            assert number is not None
            return f"{remedy} ({os.strerror(number)})"
    return None


def describe(node: h5py.Dataset | h5py.Group | h5py.Datatype) -> str:
    """Return a short description of the object at a key, for error messages."""
    if isinstance(node, h5py.Dataset):
        kind = node.dtype if h5py.check_string_dtype(node.dtype) is None else "text"
        return f"{'empty' if node.shape is None else list(node.shape)} {kind}"
    return f"a {type(node).__name__.lower()}, not a data set"
