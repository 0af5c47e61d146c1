"""Say which code ran: commit, uncommitted changes, versions."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2]
_CODE = ("mobile_vla", "conf", "run.py")
_PACKAGES = ("torch", "numpy", "hydra-core", "omegaconf", "h5py", "wandb", "mujoco-core", "safetensors", "pillow")


@cache  # the code of a process is what it loaded, whatever happens to the checkout under a sweep
def code_commit() -> str:
    """Return the commit that runs: ``<commit>``, ``<commit>-dirty-<digest>`` where files differ, ``no-git-<digest>``.

    The digest covers every Python and YAML file of package and config, so equal strings mean equal code.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        is_dirty = bool(_git("status", "--porcelain", "--", *_CODE))
    except (OSError, subprocess.CalledProcessError):
        return f"no-git-{_code_digest()}"
    return f"{commit}-dirty-{_code_digest()}" if is_dirty else commit


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages whose change could change a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=_PROJECT, check=True, capture_output=True, text=True).stdout.strip()


def _code_digest() -> str:
    digest = hashlib.blake2b(digest_size=6)
    files = [path for root in _CODE for path in [_PROJECT / root, *(_PROJECT / root).rglob("*")]]
    for path in sorted(p for p in files if p.is_file() and p.suffix in (".py", ".yaml")):
        digest.update(path.relative_to(_PROJECT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
