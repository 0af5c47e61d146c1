"""Say which code ran: commit, uncommitted changes, versions."""

from __future__ import annotations

import hashlib
import inspect
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hydra.utils import get_object

_PROJECT = Path(__file__).resolve().parents[2]
_CODE = ("mobile_vla", "conf", "run.py")
_TRAINS_NOTHING = ("mobile_vla/compare", "conf/experiment")
"""Of the code: what only reads run folders, and what only sets values that every run's config holds."""
_PACKAGES = ("torch", "numpy", "hydra-core", "omegaconf", "h5py", "wandb", "mujoco-core", "safetensors", "pillow")


@cache  # the code of a process is what it loaded, whatever happens to the checkout under a sweep
def code_commit() -> str:
    """Return the last commit that changed the code that trains: ``<commit>``, or ``<commit>-dirty-<digest>``.

    The digest stands where files differ from the commit, and after ``no-git-`` where there is none. It covers every
    Python and YAML file that can change a run, so equal strings mean equal code: neither a commit to the notebook nor
    a seed that is added to an experiment's file parts the runs of a study.
    """
    paths = [*_CODE, *(f":(exclude){path}" for path in _TRAINS_NOTHING)]
    try:
        commit = _git("log", "-1", "--format=%H", "--", *paths)
        is_dirty = bool(_git("status", "--porcelain", "--", *paths))
    except (OSError, subprocess.CalledProcessError):
        commit, is_dirty = "", False
    if not commit:  # no repository, or one of something else
        return f"no-git-{_code_digest()}"
    return f"{commit}-dirty-{_code_digest()}" if is_dirty else commit


def own_code(config: object) -> dict[str, str]:
    """Return a digest of the file of every class that ``config`` (plain containers) names from outside this package.

    What has none, or cannot be imported, is left to the check of the config.
    """
    if isinstance(config, list):
        return {name: digest for value in config for name, digest in own_code(value).items()}
    if not isinstance(config, Mapping):
        return {}
    found = {name: digest for value in config.values() for name, digest in own_code(value).items()}
    target = config.get("_target_")
    if isinstance(target, str) and not target.startswith("mobile_vla."):
        try:
            file = inspect.getsourcefile(get_object(target))
        except Exception:  # Hydra wraps whatever the import raised
            file = None
        if file is not None:
            found[target] = hashlib.blake2b(Path(file).read_bytes(), digest_size=6).hexdigest()
    return found


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
        name = path.relative_to(_PROJECT).as_posix()
        if not name.startswith(tuple(f"{folder}/" for folder in _TRAINS_NOTHING)):
            digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()
