"""Wait until what was written is on the disk itself, so that a power cut cannot take it back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP)


def sync_file(path: Path) -> None:
    """Return once the content of the file ``path`` is on the disk, whoever wrote it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Return once the names in the folder ``path`` are on the disk: which files it has, and after which rename."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems have no such call for folders; they keep names safe in their own way, or not at all.
        if error.errno not in _NOT_FOR_FOLDERS:
            raise
    finally:
        os.close(descriptor)
