"""Build a derived folder (data set, frame cache) once, however many runs want it at the same time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from mobile_vla.data.disk import storage_errors
from mobile_vla.errors import ConfigError


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return ``folder``, calling ``build(temporary_folder)`` first if it does not exist.

    The folder appears by one rename when it is whole. Runs that start together wait for the first one and then use its
    result. A build that fails leaves nothing; what a killed run left behind is removed by the next.
    """
    if folder.is_dir():
        return folder
    with storage_errors(folder, what="what is derived from the data"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if folder.is_dir():
                return folder
            temporary = folder.with_name(folder.name + ".partial")
            if temporary.exists():
                shutil.rmtree(temporary)
            temporary.mkdir()
            try:
                build(temporary)
            except BaseException:
                shutil.rmtree(temporary)
                raise
            temporary.rename(folder)
    return folder


def check_free_space(folder: Path, num_bytes: int, *, what: str, remedy: str) -> None:
    """Raise ``ConfigError`` where ``num_bytes`` do not fit beside ``folder``, a part of the cache.

    Writing on would end in SIGBUS: the files are mapped, and sparse at first.
    """
    num_free = shutil.disk_usage(folder).free
    if num_bytes > num_free:
        raise ConfigError(
            f"dataset.cache_dir={folder.parent}: {what} need {num_bytes / 2**30:.1f} GiB and {num_free / 2**30:.1f} "
            f"GiB are free. Make room, move the cache, or {remedy}."
        )
