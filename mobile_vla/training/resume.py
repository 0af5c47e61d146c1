"""Resume a stopped or finished run from its newest whole checkpoint, with the config it began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mobile_vla.config_keys import OF_THE_CALL, is_within, key_of
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.policy.checkpoint_folder import CHECKPOINTS_FOLDER, Found, entries_of, find_in_run, search
from mobile_vla.tracking.calls import calls_of
from mobile_vla.tracking.manifest import read_manifest
from mobile_vla.tracking.provenance import changed_data, changed_files
from mobile_vla.training.checkpoint import copy_checkpoint
from mobile_vla.untrusted.stored_config import load_stored_config, read_stored_config
from mobile_vla.untrusted.targets import targets_of

# Keys that do not change what the steps up to the checkpoint did: the length, the drives after training, and the place
# of the pretrained weights, which may have moved.
_GIVEN_ANEW = ("trainer.steps", "trainer.epochs", "closed_loop", "model.backbone.weights")
_MAY_CHANGE = (*_GIVEN_ANEW, *OF_THE_CALL)
"""Config keys that may have another value when a run is resumed; all other values stay as the run began."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The run that is resumed: its folder, its newest whole checkpoint, the step of that checkpoint, its manifest.

    ``damaged`` has one message for each newer checkpoint, with what is wrong with it. ``overrides`` are the overrides
    of this call that differ from the config the run began with.
    """

    folder: Path
    checkpoint: Path
    step: int
    manifest: Mapping[str, Any]
    damaged: tuple[str, ...]
    overrides: tuple[str, ...] = ()

    def check(self, *, data_hash: str, split_hash: str, num_steps: int, stop_at_step: int | None) -> None:
        """Raise ``ConfigError`` if the run would mix two data sets, or if no steps are left to do."""
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
        return f" The last call of resume gave {given}: this is not kept for later calls." if given else ""

    def copy_checkpoints(self, run: Path) -> None:
        """Copy the checkpoint that is resumed, and the best one, if the run continues in another folder ``run``.

        Raises ``ConfigError`` if that folder has checkpoints of another run.
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
    """Return the origin of a run that resumes from the checkpoint ``found`` of the run in ``folder``.

    Raises ``UserError`` if the manifest is missing or incomplete.
    """
    manifest = read_manifest(folder)
    if "num_steps" not in manifest:
        raise UserError(f"{folder}: its manifest.json has no num_steps, though it has a checkpoint: it is damaged")
    return Origin(folder=folder, checkpoint=found.path, step=found.step, manifest=manifest, damaged=found.damaged)


def resume_config(
    cfg: DictConfig, *, overrides: Sequence[str], is_sweep: bool
) -> tuple[DictConfig, DictConfig, Origin]:
    """Return two configs of the run in ``cfg.resume``, one for this call and one as the run began, and its origin.

    In the config for this call, the keys that may change have their values from ``cfg``. Raises ``UserError`` if no
    checkpoint is whole, and ``ConfigError`` if an override of another key differs from what the run began with.
    """
    if is_sweep:
        raise ConfigError(f"resume={cfg.resume} goes on with one run and cannot be swept: leave out -m.")
    folder = Path(cfg.resume)
    origin = origin_of(folder, find_in_run(folder, asked_by="resume="))
    # The stored config may come from another person, so its classes are checked. The classes that the config of this
    # call names are trusted, because the user chose them: for example a sampler found by hydra.searchpath.
    saved = load_stored_config(folder, trust=targets_of(OmegaConf.to_container(cfg)) | set(cfg.trust))
    refused, of_this_call = [], []
    for override in overrides:
        key = key_of(override).split("@", 1)[0]
        if key.startswith("hydra") or key == "resume":
            continue
        # ``experiment`` is not a key of the composed config; of its values, ``study`` identifies it.
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
    # The limit of the earlier call does not apply to this one, even if this call gives none.
    saved.trainer.stop_at_step = cfg.trainer.stop_at_step
    saved.resume, saved.trust = cfg.resume, cfg.trust
    return saved, read_stored_config(folder), replace(origin, overrides=tuple(of_this_call))


def _check_files(origin: Origin, saved: DictConfig) -> None:
    if changed := changed_files(origin.manifest, OmegaConf.to_container(saved)):
        raise ConfigError(
            f"resume={origin.folder}: files that the run reads have changed since it began: {'; '.join(changed)}. Put "
            "them back as they were, or start a new run without resume."
        )


def _resolved(cfg: DictConfig, key: str) -> object:
    value = OmegaConf.select(cfg, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
