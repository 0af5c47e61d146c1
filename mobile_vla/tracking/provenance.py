"""The provenance of a run: commit, uncommitted changes, package versions, and the other files that it reads."""

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

from mobile_vla.installation import IS_CHECKOUT

ABSENT = "(absent)"
"""Shown in place of a value that does not exist."""

_PROJECT = Path(__file__).resolve().parents[2]
_CODE = ("mobile_vla", "conf", "run.py") if IS_CHECKOUT else ("mobile_vla",)  # the wheel has conf/ in the package
_TRAINS_NOTHING = ("mobile_vla/compare", "conf/experiment" if IS_CHECKOUT else "mobile_vla/conf/experiment")
"""The parts of the code that cannot change a run: they only read run folders, or set values that are in its config."""
_PACKAGES = ("torch", "numpy", "hydra-core", "omegaconf", "h5py", "wandb", "mujoco-core", "safetensors", "pillow")


@cache  # a process runs the code that it loaded, even if the checkout changes during a sweep
def code_commit() -> str:
    """Return the last commit that changed the code that trains: ``<commit>``, or ``<commit>-dirty-<digest>``.

    The digest is there if files differ from the commit; without a commit it is ``no-git-<digest>``. It covers every
    Python and YAML file that can change a run, so equal strings mean equal code. Other files do not count: after a
    commit to the notebook, or a new seed in an experiment's file, the runs of a study still belong together.
    """
    paths = [*_CODE, *(f":(exclude){path}" for path in _TRAINS_NOTHING)]
    try:
        commit = _git("log", "-1", "--format=%H", "--", *paths)
        is_dirty = bool(_git("status", "--porcelain", "--", *paths))
    except (OSError, subprocess.CalledProcessError):
        commit, is_dirty = "", False
    if not commit:  # no repository, or a repository of another project
        return f"no-git-{_code_digest()}"
    return f"{commit}-dirty-{_code_digest()}" if is_dirty else commit


def files_of(config: object) -> dict[str, str]:
    """Return digests of the files outside this package that ``config`` names and that influence training, by name.

    ``config`` is made of plain containers, resolved. The source file of a class from outside the package is named by
    the class, such as ``late.Late``; the files that it imports are not included. The window score file of a sampler's
    option ``file`` is named ``sampler.file=PATH``. A missing file and a class that cannot be imported are left out:
    the code that needs them raises the error.
    """
    return {name: _digest(path) for name, path in sorted(_files(config)) if path.is_file()}


def changes(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return a text for each name in ``now`` whose value differs from that in ``before``, with both values."""
    then = {name: before.get(name, ABSENT) for name in now}
    return [f"{name} was {then[name]}, now {value}" for name, value in now.items() if then[name] != value]


def changed_data(manifest: Mapping[str, Any], *, data_hash: str, split_hash: str) -> list[str]:
    """Return the differences between the data and those that the run of ``manifest`` was trained on, as texts."""
    return changes(manifest, {"data_hash": data_hash, "split_hash": split_hash})


def changed_files(manifest: Mapping[str, Any], config: object) -> list[str]:
    """Return the files of ``config`` that have changed since the run of ``manifest`` read them, as texts."""
    return [f"the content of {change}" for change in changes(manifest.get("files", {}), files_of(config))]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _files(node: object, path: str = "") -> Iterator[tuple[str, Path]]:
    """Yield name and path of the files that ``files_of`` describes, at or below ``node``, whose key is ``path``."""
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
    except Exception:  # an import can raise any error, and Hydra wraps it
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
