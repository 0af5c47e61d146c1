"""Take up a job that an earlier call of a sweep began and did not finish: go on where that is exact, or begin anew."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from mobile_vla.disk import remove
from mobile_vla.policy.checkpoint_folder import Found, search
from mobile_vla.study.finished import changes_since
from mobile_vla.training.resume import Origin, origin_of

_log = logging.getLogger(__name__)

_OF_AN_ATTEMPT = (
    *("manifest.json", "config.yaml", "split.json", "metrics.jsonl", "summary.json", "checkpoints"),
    *("val_windows.csv", "hardest.json", "hardest", "episode_results.jsonl", "videos"),
)
"""What a run writes into its folder; whatever else lies there is not ours to delete."""


def take_up(folder: Path, cfg: DictConfig) -> Origin | None:
    """Return what an unfinished job goes on with; None, its earlier files deleted, where it begins anew.

    It goes on from a checkpoint of the same code and config: that is exact, however the earlier attempt ended.
    """
    names = ("manifest.json", "config.yaml", "metrics.jsonl")
    if all((folder / name).is_file() for name in names) and not changes_since(folder, cfg):
        found = search(folder)
        if isinstance(found, Found):
            return origin_of(folder, found)
        for text in found.damaged:
            _log.warning("%s; no other one is whole, so the job begins anew", text)
    # Nothing of the earlier attempt may pass for the next one's.
    for name in _OF_AN_ATTEMPT:
        remove(folder / name)
    return None
