"""Take up a stopped or finished run where its last checkpoint stands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mobile_vla.errors import ConfigError
from mobile_vla.training.checkpoint import find_last_checkpoint

_MAY_CHANGE = (
    "trainer.steps",
    "trainer.epochs",
    "trainer.stop_at_step",
    "logger",
    "closed_loop",
    "model.backbone.weights",
    "resume",
)
"""Config keys a resumed run may set anew; everything else stays as the run began."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The run that is resumed: its folder, its last checkpoint, the step of it, and its manifest."""

    folder: Path
    checkpoint: Path
    step: int
    manifest: Mapping[str, Any]

    def check(self, *, data_hash: str, split_hash: str, num_steps: int, stop_at_step: int | None) -> None:
        """Raise ``ConfigError`` where going on would mix two data sets, or where there is nothing left to do."""
        if (data_hash, split_hash) != (self.manifest["data_hash"], self.manifest["split_hash"]):
            raise ConfigError(
                f"resume={self.folder}: the data are no longer those the run began with (data_hash {data_hash}, then "
                f"{self.manifest['data_hash']}). Put the episodes back as they were, or start a new run without resume."
            )
        if num_steps < self.step:
            raise ConfigError(
                f"resume={self.folder}: the run has done {self.step} steps, more than the {num_steps} it is given now. "
                "Give more with trainer.steps."
            )
        if stop_at_step is not None and stop_at_step <= self.step:
            raise ConfigError(
                f"trainer.stop_at_step={stop_at_step}: the run has done {self.step} steps already. Give a later one."
            )


def origin_of(folder: Path) -> Origin:
    """Return where the run in ``folder`` stands; ``UserError`` when it has no checkpoint."""
    checkpoint = find_last_checkpoint(folder)
    return Origin(
        folder=folder,
        checkpoint=checkpoint,
        step=json.loads((checkpoint / "training.json").read_text())["step"],
        manifest=json.loads((folder / "manifest.json").read_text()),
    )


def resume_config(cfg: DictConfig, *, overrides: Sequence[str], is_sweep: bool) -> tuple[DictConfig, Origin]:
    """Return the config of the run in ``cfg.resume`` with what may change taken from ``cfg``, and that run.

    ``UserError`` when there is no checkpoint, ``ConfigError`` when an override differs from what the run began with.
    """
    if is_sweep:
        raise ConfigError(f"resume={cfg.resume} goes on with one run and cannot be swept: leave out -m.")
    folder = Path(cfg.resume)
    origin = origin_of(folder)
    saved = OmegaConf.load(folder / "config.yaml")
    assert isinstance(saved, DictConfig)
    refused = []
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0].split("@", 1)[0]
        if key.startswith("hydra") or _may_change(key):
            continue
        # An experiment is no key of the config; its study is what it leaves there.
        compared = "study" if key == "experiment" else key
        if _resolved(cfg, compared) != _resolved(saved, compared):
            refused.append(override)
    if refused:
        raise ConfigError(
            f"resume={cfg.resume} goes on with the run as it began; {', '.join(refused)} would change it. Only "
            f"{', '.join(_MAY_CHANGE[:-1])} may change. Start a new run without resume."
        )
    given = {override.lstrip("+").split("=", 1)[0] for override in overrides}
    for key in ("trainer.steps", "trainer.epochs", "logger", "closed_loop", "model.backbone.weights"):
        if any(name == key or name.startswith(f"{key}.") for name in given):
            OmegaConf.update(saved, key, OmegaConf.select(cfg, key), force_add=True, merge=False)
    # A limit of the earlier sitting is not one of this sitting.
    saved.trainer.stop_at_step = cfg.trainer.stop_at_step
    saved.resume = cfg.resume
    return saved, origin


def _may_change(key: str) -> bool:
    return any(key == allowed or key.startswith(f"{allowed}.") for allowed in _MAY_CHANGE)


def _resolved(cfg: DictConfig, key: str) -> object:
    value = OmegaConf.select(cfg, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
