"""Where the recordings lie that the project shares and that are no part of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def _find() -> Path:
    """Return ``shared/data`` beside the checkout, or beside the main one where this is a git worktree of it."""
    if given := os.environ.get("MOBILE_VLA_SHARED"):
        return Path(given) / "data"
    root = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "rev-parse", "--path-format=absolute", "--git-common-dir"]
    common = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    places = [root.parent, *([Path(common).parent.parent] if common else [])]
    return next((place / "shared" / "data" for place in places if (place / "shared" / "data").is_dir()), root.parent)


SHARED_DATA = _find()


def shared(name: str) -> Path:
    """Return the shared recordings ``name``; skip the test where they are absent."""
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"the shared recordings {path} are absent; set MOBILE_VLA_SHARED to the folder that holds data/")
    return path
