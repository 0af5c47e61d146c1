"""Run one job from its composed config: check, open the data, train, and leave a run folder that says what happened."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mobile_vla.announcement import announce, print_end, show_estimate
from mobile_vla.augmentation.pipeline import Augment
from mobile_vla.build import Run, build_run
from mobile_vla.config import check_config
from mobile_vla.data.batches import Reader
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.evaluation.evidence import Evidence, gather_evidence
from mobile_vla.final_measurements import measure_trained
from mobile_vla.policy.model import Model
from mobile_vla.policy.weights import check_base
from mobile_vla.run_record import MANIFEST_FACTS, description_of, facts_of, manifest_of, results_of
from mobile_vla.study.earlier import claimed, take_up
from mobile_vla.study.finished import finished_value
from mobile_vla.study.primary import check_primary
from mobile_vla.study.summary import objective_of
from mobile_vla.tracking.run_folder import RunFolder, read_metrics
from mobile_vla.tracking.wandb_mirror import RunIdentity
from mobile_vla.training.frozen_features import with_features
from mobile_vla.training.live import LiveProgress
from mobile_vla.training.loop import Parts, Result, train
from mobile_vla.training.resume import Origin, resume_config

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What Hydra knows of a job: its folder, its choices in the config groups, its overrides, its sweep's folder.

    ``has_terminal`` is False where a launcher runs several jobs side by side: their bars would overwrite each other.
    """

    folder: Path
    choices: dict[str, str]
    overrides: tuple[str, ...]
    sweep_folder: Path | None
    has_terminal: bool

    @classmethod
    def from_hydra(cls) -> Job:
        """Return the job that Hydra is running."""
        hydra = HydraConfig.get()
        is_sweep = hydra.mode == RunMode.MULTIRUN
        return cls(
            folder=Path(hydra.runtime.output_dir),
            choices={
                k: v for k, v in hydra.runtime.choices.items() if isinstance(v, str) and not k.startswith("hydra/")
            },
            overrides=tuple(hydra.overrides.task),
            sweep_folder=Path(hydra.sweep.dir).absolute() if is_sweep else None,
            has_terminal=not is_sweep or hydra.runtime.choices["hydra/launcher"] == "basic",
        )


def run_job(cfg: DictConfig) -> float:
    """Run the job and return its final ``val/rmse``, or ``inner/rmse`` where that is measured.

    A job of a sweep that is done already is not run again; one that was begun goes on where that is exact.

    A job that fails always leaves a summary that says so. Alone it then raises: a ``UserError`` as a plain message with
    exit code 1. In a sweep it returns NaN, so that its siblings run and the sweep's end can report it.
    """
    job = Job.from_hydra()
    folder = RunFolder(job.folder)
    try:
        if job.sweep_folder is None or cfg.resume is not None:
            return _run(cfg, job, folder, origin=None)
        if (value := finished_value(job.folder, cfg)) is not None:
            Console().print(f"{job.folder.name} is done already: {value:.4f}", highlight=False)
            return value
        with claimed(job.folder):
            return _run(cfg, job, folder, origin=take_up(job.folder, cfg))
    except KeyboardInterrupt as error:  # while data were read; the training loop stops in its own way
        folder.fail(error)
        raise
    except Exception as error:
        folder.fail(error)
        if job.sweep_folder is not None:
            _log.error("%s failed: %s", job.folder.name, error, exc_info=not isinstance(error, UserError))
            return math.nan
        if isinstance(error, UserError):
            raise SystemExit(f"error: {error}") from error
        raise


def _run(cfg: DictConfig, job: Job, folder: RunFolder, *, origin: Origin | None) -> float:
    """Check, build, announce, train, measure; ``origin`` is what the job goes on with, besides ``cfg.resume``."""
    console = Console()
    if cfg.resume is not None:
        cfg, origin = resume_config(cfg, overrides=job.overrides, is_sweep=job.sweep_folder is not None)
    manifest = manifest_of(cfg, choices=job.choices, overrides=job.overrides, folder=job.folder, origin=origin)
    if origin is None:
        _begin(folder, manifest, cfg)
    check_config(cfg, overrides=job.overrides)
    OmegaConf.set_readonly(cfg, True)
    run = _build(cfg, origin, console)
    if origin is not None:
        # Nothing was written until here: a refusal leaves the run that it is about as it is.
        folder.copy_checkpoints(origin.folder)
        _begin(folder, manifest, cfg)
    evidence = gather_evidence(run.data)
    manifest |= _record_facts(run, evidence, folder)
    folder.write_manifest(manifest)
    announce(run, evidence, manifest=manifest, origin=origin, console=console)
    result = _train_and_measure(
        run, evidence, job=job, folder=folder, manifest=manifest, origin=origin, console=console
    )
    print_end(result.status, folder.known, console)
    if result.stopped_by is not None:
        raise SystemExit(128 + result.stopped_by)
    return objective_of(result.progress.latest)


def _begin(folder: RunFolder, manifest: Mapping[str, Any], cfg: DictConfig) -> None:
    folder.begin(manifest)
    OmegaConf.save(cfg, folder.path / "config.yaml", resolve=True)


def _build(cfg: DictConfig, origin: Origin | None, console: Console) -> Run:
    """Read the data and build the run; a ``UserError`` where it cannot go on from ``origin``."""
    try:
        run = build_run(cfg, on_estimate=lambda estimate: show_estimate(estimate, console))
    except ConfigError as error:
        if origin is None or "model.backbone.weights" not in str(error):
            raise
        raise ConfigError(f"{error}\nIf they only moved, say where they are: +model.backbone.weights=FOLDER") from error
    if origin is not None:
        origin.check(
            data_hash=run.data.data_hash,
            split_hash=run.data.split.hash,
            num_steps=run.num_steps,
            stop_at_step=run.trainer.stop_at_step,
        )
        check_base(run.model, origin.checkpoint)
    return run


def _record_facts(run: Run, evidence: Evidence, folder: RunFolder) -> dict[str, Any]:
    """Record what is known before the first step; return what of it the manifest repeats."""
    folder.learn(facts_of(run, evidence))
    run.data.split.write(folder.path / "split.json")
    return {"num_steps": run.num_steps} | {key: folder.known[key] for key in MANIFEST_FACTS}


def _train_and_measure(
    run: Run,
    evidence: Evidence,
    *,
    job: Job,
    folder: RunFolder,
    manifest: Mapping[str, Any],
    origin: Origin | None,
    console: Console,
) -> Result:
    """Train with everything logged, measure what came out, and write the summary."""
    folder.start_metrics(history=read_metrics(origin.folder, up_to_step=origin.step) if origin else [])
    study, sampler, seed, run_id = (manifest[key] for key in ("study", "sampler", "seed", "run_id"))
    identity = RunIdentity(study=study, sampler=sampler, seed=seed, run_id=run_id)
    wandb_folder, logged = job.sweep_folder or job.folder, {**run.config, "choices": manifest["choices"]}
    with (
        run.logger.open(identity, config=logged, folder=wandb_folder, resume=origin is not None) as mirror,
        LiveProgress(label=identity.run_id, num_steps=run.num_steps, is_bar=job.has_terminal, console=console) as live,
    ):

        def log(row: Mapping[str, float]) -> None:
            folder.log(row)
            mirror.log(row)
            folder.learn({"steps" if key == "step" else key: value for key, value in row.items()})

        run.model.to(run.trainer.torch_device())
        split_seed, cache_dir = run.dataset.split_seed, Path(run.dataset.cache_dir)
        readers, augment = with_features(run.model, run.data, run.augment, split_seed=split_seed, cache_dir=cache_dir)
        checkpoint = origin.checkpoint if origin else None
        result = _train(run, readers, augment, folder, log, live, resume_from=checkpoint)
        folder.learn(results_of(run, result, folder, mirror.url))
        if result.status == "done":
            try:
                mirror.log_videos(
                    measure_trained(run, readers["val"], evidence=evidence, folder=folder, console=console)
                )
            except BaseException:
                _log.error("training is done and kept; python run.py resume=%s measures it again", folder.path)
                raise
        folder.write_summary(result.status)
        mirror.finish(folder.known)
    if mirror.unconfirmed_rows is not None:
        folder.learn({"wandb/unconfirmed_rows": mirror.unconfirmed_rows})
        folder.write_summary(result.status)
    return result


def _train(
    run: Run,
    readers: Mapping[str, Reader],
    augment: Augment,
    folder: RunFolder,
    log: Callable[[Mapping[str, float]], None],
    live: LiveProgress,
    *,
    resume_from: Path | None,
) -> Result:
    def evaluate(model: Model) -> dict[str, float]:
        names, split_seed = run.data.action_names, run.dataset.split_seed
        measured = run.evaluation.measure(model, readers, action_names=names, split_seed=split_seed)
        check_primary(run, measured)
        return measured

    parts = Parts(
        model=run.model,
        sampler=run.sampler,
        reader=readers["train"],
        augment=augment,
        evaluate=evaluate,
        log=log,
        show=live.show,
        noise=run.noise,
        checkpoints=folder.checkpoints,
        description=description_of(run).to_json(),
    )
    return train(parts, run.trainer, num_steps=run.num_steps, resume_from=resume_from)
