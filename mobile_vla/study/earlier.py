"""Take up a job that an earlier call of a sweep began and did not finish: go on where that is exact, or begin anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from mobile_vla.errors import ConfigError
from mobile_vla.study.finished import changes_since
from mobile_vla.training.resume import Origin, origin_of

_LOCK_FILE = "job.lock"
_KEPT = (_LOCK_FILE, ".hydra", "run.log")


def take_up(folder: Path, cfg: DictConfig) -> Origin | None:
    """Return what an unfinished job goes on with; None, and an empty folder, where it begins anew.

    It goes on from a checkpoint of the same code and config: that is exact, however the earlier attempt ended.
    """
    names = ("manifest.json", "config.yaml", "metrics.jsonl")
    has_checkpoint = any((folder / "checkpoints" / name / "training.json").is_file() for name in ("last", "last.old"))
    if has_checkpoint and all((folder / name).is_file() for name in names) and not changes_since(folder, cfg):
        return origin_of(folder)
    # Nothing of the earlier attempt may pass for the next one's.
    for path in folder.iterdir():
        if path.name in _KEPT:
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return None


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep every other process from training the job in ``folder``; ``ConfigError`` where one is at it."""
    try:
        with FileLock(folder / _LOCK_FILE, timeout=0):
            yield
    except Timeout as error:
        raise ConfigError(f"{folder}: another process trains this job. Wait for it, or end it first.") from error
