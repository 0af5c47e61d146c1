"""Resume a job that an earlier call of the sweep started but did not finish, or restart it from step 0."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from mobile_vla.policy.checkpoint_folder import Found, search
from mobile_vla.storage.disk import remove
from mobile_vla.study.finished import changes_since
from mobile_vla.training.resume import Origin, origin_of

_log = logging.getLogger(__name__)

_OF_AN_ATTEMPT = (
    *("manifest.json", "config.yaml", "split.json", "spec.json", "metrics.jsonl", "summary.json", "checkpoints"),
    *("val_windows.csv", "hardest.json", "hardest", "episode_results.jsonl", "videos"),
)
"""The files and folders that a run writes. Only these are deleted: a user may keep other files in the run folder."""


def resume_or_reset(folder: Path, cfg: DictConfig) -> Origin | None:
    """Return the checkpoint from which an unfinished job resumes; None if it restarts, after deleting its old files.

    A job resumes only if its checkpoint has the same code and config: then the result is exactly that of an
    uninterrupted run, however the earlier attempt ended.
    """
    names = ("manifest.json", "config.yaml", "metrics.jsonl")
    if all((folder / name).is_file() for name in names) and not changes_since(folder, cfg):
        found = search(folder)
        if isinstance(found, Found):
            return origin_of(folder, found)
        for text in found.damaged:
            _log.warning("%s; no other checkpoint is complete, so the job starts again from step 0", text)
    # A file of the earlier attempt must not be read as a result of the new one.
    for name in _OF_AN_ATTEMPT:
        remove(folder / name)
    return None
