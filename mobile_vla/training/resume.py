"""Take up a stopped or finished run where its last checkpoint stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mobile_vla.calls import calls_of
from mobile_vla.config_keys import OF_THE_CALL, is_within, key_of
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.policy.checkpoint_folder import CHECKPOINTS_FOLDER, Found, entries_of, find_in_run, search
from mobile_vla.tracking.manifest import read_manifest
from mobile_vla.tracking.provenance import changed_data, changed_files
from mobile_vla.training.checkpoint import copy_checkpoint
from mobile_vla.untrusted.stored_config import load_stored_config, read_stored_config
from mobile_vla.untrusted.targets import targets_of

_GIVEN_ANEW = ("trainer.steps", "trainer.epochs", "closed_loop", "model.backbone.weights")
_MAY_CHANGE = (*_GIVEN_ANEW, *OF_THE_CALL)
"""Config keys a resumed run may set anew; everything else stays as the run began."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The run that is resumed: its folder, its newest whole checkpoint, the step of it, and its manifest.

    ``damaged`` says what is wrong with the checkpoints that are newer. ``overrides`` are those of this call that set
    something else than the run began with.
    """

    folder: Path
    checkpoint: Path
    step: int
    manifest: Mapping[str, Any]
    damaged: tuple[str, ...]
    overrides: tuple[str, ...] = ()

    def check(self, *, data_hash: str, split_hash: str, num_steps: int, stop_at_step: int | None) -> None:
        """Raise ``ConfigError`` where going on would mix two data sets, or where there is nothing left to do."""
        if changed := changed_data(self.manifest, data_hash=data_hash, split_hash=split_hash):
            raise ConfigError(
                f"resume={self.folder}: the data are no longer those the run began with ({', '.join(changed)}). Put "
                "the episodes back as they were, or start a new run without resume."
            )
        if num_steps < self.step:
            raise ConfigError(
                f"resume={self.folder}: the run has done {self.step} steps, more than the {num_steps} it is given now. "
                f"Give more with trainer.steps.{self._earlier_overrides()}"
            )
        if num_steps == self.step < self.manifest["num_steps"]:
            raise ConfigError(
                f"resume={self.folder}: the run has done the {num_steps} steps it is given now, of the "
                f"{self.manifest['num_steps']} that are planned. Give more with trainer.steps, or leave it out."
            )
        if stop_at_step is not None and stop_at_step <= self.step:
            raise ConfigError(
                f"trainer.stop_at_step={stop_at_step}: the run has done {self.step} steps already. Give a later one."
            )

    def _earlier_overrides(self) -> str:
        calls = calls_of(self.manifest)
        given = " ".join(calls[-1]["overrides"]) if calls else ""
        return f" The last call of resume gave {given}: what one call is given does not last." if given else ""

    def copy_checkpoints(self, run: Path) -> None:
        """Copy the checkpoint that the run goes on from, and its best one, where it goes on in another folder ``run``.

        ``ConfigError`` where that holds a run of its own.
        """
        if run.samefile(self.folder):
            return
        checkpoints = run / CHECKPOINTS_FOLDER
        if entries_of(checkpoints):
            raise ConfigError(f"hydra.run.dir={run}: holds checkpoints of another run; give a new folder.")
        best = search(self.folder, "best")
        for path in (self.checkpoint, *([best.path] if isinstance(best, Found) else [])):
            if not (checkpoints / path.name).exists():
                copy_checkpoint(path, checkpoints / path.name)


def origin_of(folder: Path, found: Found) -> Origin:
    """Return what goes on from the checkpoint ``found`` of the run in ``folder``.

    ``UserError`` without a whole manifest.
    """
    manifest = read_manifest(folder)
    if "num_steps" not in manifest:
        raise UserError(f"{folder}: its manifest.json has no num_steps, though it has a checkpoint: it is damaged")
    return Origin(folder=folder, checkpoint=found.path, step=found.step, manifest=manifest, damaged=found.damaged)


def resume_config(
    cfg: DictConfig, *, overrides: Sequence[str], is_sweep: bool
) -> tuple[DictConfig, DictConfig, Origin]:
    """Return two configs of the run in ``cfg.resume``, for this call and as it began, and that run.

    What may change is taken from ``cfg`` for this call. ``UserError`` when no checkpoint is whole, ``ConfigError`` when
    an override differs from what the run began with.
    """
    if is_sweep:
        raise ConfigError(f"resume={cfg.resume} goes on with one run and cannot be swept: leave out -m.")
    folder = Path(cfg.resume)
    origin = origin_of(folder, find_in_run(folder, asked_by="resume="))
    # What this call itself composes, the user has named: a sampler of one's own by hydra.searchpath.
    saved = load_stored_config(folder, trust=targets_of(OmegaConf.to_container(cfg)) | set(cfg.trust))
    refused, of_this_call = [], []
    for override in overrides:
        key = key_of(override).split("@", 1)[0]
        if key.startswith("hydra") or key == "resume":
            continue
        # An experiment is no key of the config; its study is what it leaves there.
        compared = "study" if key == "experiment" else key.replace("/", ".")
        if _resolved(cfg, compared) != _resolved(saved, compared):
            (of_this_call if is_within(key, _MAY_CHANGE) else refused).append(override)
    if refused:
        raise ConfigError(
            f"resume={cfg.resume} goes on with the run as it began; {', '.join(refused)} would change it. Only "
            f"{', '.join(key for key in _MAY_CHANGE if key != 'resume')} may change. Start a new run without resume."
        )
    _check_files(origin, saved)
    given = {key_of(override) for override in overrides}
    for key in (*_GIVEN_ANEW, "logger", "trainer.keep"):
        if any(is_within(name, [key]) for name in given):
            OmegaConf.update(saved, key, OmegaConf.select(cfg, key), force_add=True, merge=False)
    # A limit of the earlier sitting is not one of this sitting.
    saved.trainer.stop_at_step = cfg.trainer.stop_at_step
    saved.resume, saved.trust = cfg.resume, cfg.trust
    return saved, read_stored_config(folder), replace(origin, overrides=tuple(of_this_call))


def _check_files(origin: Origin, saved: DictConfig) -> None:
    if changed := changed_files(origin.manifest, OmegaConf.to_container(saved)):
        raise ConfigError(
            f"resume={origin.folder}: what the run read is no longer what it began with: {'; '.join(changed)}. Put it "
            "back as it was, or start a new run without resume."
        )


def _resolved(cfg: DictConfig, key: str) -> object:
    value = OmegaConf.select(cfg, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
