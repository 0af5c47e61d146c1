"""The causes outside a recording for which it cannot be read now, whatever library reads it."""

from __future__ import annotations

import errno
import os
import re

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
