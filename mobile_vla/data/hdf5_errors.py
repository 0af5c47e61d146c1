"""Say in words for people what h5py found in a file, or what kept it from reading."""

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
"""What h5py and zlib raise on damaged files, as flipping every byte of one showed."""

_REMEDIES = {
    "cannot be locked: a program holds it open for writing, most likely the recorder. Close that program. Where none "
    "runs, the file system kept a lock of a dead one: set HDF5_USE_FILE_LOCKING=FALSE": (errno.EAGAIN,),
    "may not be read by this user. Ask its owner, or give the permission (chmod u+r)": (errno.EACCES, errno.EPERM),
    "cannot be opened beside so many other files. Close other programs, or raise the limit (ulimit -n)": (
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
    """Turn what h5py raises inside the block into a ``DataError`` that begins with ``finding``, "PATH: what is wrong".

    ``UnreadableNowError`` where the cause lies outside of the file: that a file is corrupt is said of no other.
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
    """Return what keeps a file that may be whole from being read, and what helps; None where it is the file itself.

    The operating system's words stand in it: HDF5 repeats its error number in a message of its own.
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
    """Say what stands at a key, for messages."""
    if isinstance(node, h5py.Dataset):
        kind = node.dtype if h5py.check_string_dtype(node.dtype) is None else "text"
        return f"{'empty' if node.shape is None else list(node.shape)} {kind}"
    return f"a {type(node).__name__.lower()}, not a data set"
