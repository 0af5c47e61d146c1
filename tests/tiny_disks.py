"""Mount disks of a few hundred KiB, so that a full or a read-only disk is a real one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[Path]:
    """Mount something at ``place`` for the block; the test is skipped where this process may not mount."""
    done = subprocess.run(["mount", *arguments, str(place)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a mount is not permitted here, so a failing disk cannot be tried: {done.stderr.strip()}")
    try:
        yield place
    finally:
        _unmount(place)


def _unmount(place: Path) -> None:
    """Unmount as soon as it can be: a process that was ended holds its files for a moment."""
    for _ in range(50):
        if subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.05)
    subprocess.run(["umount", str(place)], check=True)


@contextmanager
def tiny_disk(place: Path, *, kib: int, options: str = "") -> Iterator[Path]:
    """Mount an empty disk of ``kib`` KiB at the new folder ``place``."""
    place.mkdir()
    with mounted(place, "-t", "tmpfs", "-o", f"size={kib}k{options}", "none") as disk:
        yield disk
