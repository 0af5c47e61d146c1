"""Say what a run was made of: commit, uncommitted changes, versions, the files it reads beside them."""

from __future__ import annotations

import hashlib
import inspect
import platform
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hydra.utils import get_object

ABSENT = "(absent)"
"""Stands for the value of what is not there."""

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


def files_of(config: object) -> dict[str, str]:
    """Return a digest of the files outside this package that ``config`` names and that decide what it trains.

    ``config`` is made of plain containers, resolved. The source file of a class from outside goes by the name of the
    class, ``late.Late`` (what that file imports is not followed); the window score file of a sampler's option ``file``
    by ``sampler.file=PATH``. A file that is not there, and a class that cannot be imported, are left to those who need
    them.
    """
    return {name: _digest(path) for name, path in sorted(_files(config)) if path.is_file()}


def changes(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Say of each name in ``now`` whose value is another than ``before`` what it was and what it is."""
    then = {name: before.get(name, ABSENT) for name in now}
    return [f"{name} was {then[name]}, now {value}" for name, value in now.items() if then[name] != value]


def changed_data(manifest: Mapping[str, Any], *, data_hash: str, split_hash: str) -> list[str]:
    """Say in what the data are no longer those that the run of ``manifest`` was trained on."""
    return changes(manifest, {"data_hash": data_hash, "split_hash": split_hash})


def changed_files(manifest: Mapping[str, Any], config: object) -> list[str]:
    """Say which files that decide what ``config`` trains are not as the run of ``manifest`` found them."""
    return [f"the content of {change}" for change in changes(manifest.get("files", {}), files_of(config))]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages whose change could change a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _files(node: object, path: str = "") -> Iterator[tuple[str, Path]]:
    """Yield name and path of what ``files_of`` speaks of, at or below ``node``, which stands at ``path``."""
    if not isinstance(node, Mapping | list):
        return
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        where = f"{path}.{key}" if path else str(key)
        if key == "_target_" and isinstance(value, str) and not value.startswith("mobile_vla."):
            if (source := _source(value)) is not None:
                yield value, source
        elif key == "file" and path.split(".")[0] == "sampler" and isinstance(value, str):
            yield f"{where}={value}", Path(value)
        else:
            yield from _files(value, where)


def _source(target: str) -> Path | None:
    try:
        file = inspect.getsourcefile(get_object(target))
    except Exception:  # Hydra wraps whatever the import raised
        return None
    return None if file is None else Path(file)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=6)).hexdigest()


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
