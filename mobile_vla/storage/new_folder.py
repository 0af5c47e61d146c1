"""Folders that the user names and that appear as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mobile_vla.errors import DataError
from mobile_vla.storage.disk import storage_errors


def check_new(out: Path, *, what: str) -> None:
    """Raise ``DataError`` where ``out`` is not a new or empty folder that ``what`` ("the episodes") can become."""
    with storage_errors(out, what=what):
        if out.is_mount():  # a folder cannot be renamed to a mount point
            raise DataError(f"{out} is a whole disk (a mount point). Name a new folder in it.")
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return
    raise DataError(f"{out} exists and is not an empty folder. Name a new folder, or remove this one first.")


@contextmanager
def new_folder(out: Path, *, what: str, num_bytes: Callable[[], int] | None = None) -> Iterator[Path]:
    """Give the block an empty folder and rename it to ``out`` at its end; after an error nothing is left.

    Its parent, a folder beside ``out``, is removed at the end: files that the block needs for a while may be there.
    ``num_bytes`` estimates the needed space after a failure. Raises ``UserError`` where the disk does not accept it.
    """
    place = out.resolve()
    with storage_errors(out, what=what, num_bytes=num_bytes):
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as staging:
            folder = Path(staging) / "new"
            folder.mkdir()
            yield folder
            folder.rename(place)
