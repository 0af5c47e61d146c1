"""Run one job from its composed config: check, open the data, train, and leave a run folder that says what happened."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mobile_vla.augmentation.pipeline import Augment
from mobile_vla.build import Run, build_run, check_config
from mobile_vla.closed_loop.evaluation import RESULTS_FILE, write_results
from mobile_vla.closed_loop.suite_table import print_suites
from mobile_vla.closed_loop.taught import TaughtScenarios
from mobile_vla.data.batches import Reader
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.evaluation.evidence import Evidence, gather_evidence, print_evidence, print_warnings
from mobile_vla.evaluation.hardest import write_hardest
from mobile_vla.evaluation.shortcuts import measure_shortcuts, print_shortcuts
from mobile_vla.evaluation.window_errors import WINDOW_ERRORS_FILE, measure_windows, write_window_errors
from mobile_vla.policy.model import Model
from mobile_vla.policy.policy import Policy
from mobile_vla.policy.weights import check_base
from mobile_vla.run_record import MANIFEST_FACTS, description_of, facts_of, manifest_of, results_of
from mobile_vla.streams import Stream
from mobile_vla.study.earlier import claimed, take_up
from mobile_vla.study.finished import finished_value
from mobile_vla.study.summary import objective_of
from mobile_vla.tracking.run_folder import RunFolder, read_metrics
from mobile_vla.tracking.wandb_mirror import RunIdentity
from mobile_vla.training.frozen_features import feature_warnings, with_features
from mobile_vla.training.live import LiveProgress
from mobile_vla.training.loop import Parts, Result, train
from mobile_vla.training.precision import autocast
from mobile_vla.training.resume import Origin, resume_config

if TYPE_CHECKING:
    from mobile_vla.policy.estimate.step import Estimate

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
    """Check, build, announce, train, summarise; ``origin`` is what the job goes on with, besides ``cfg.resume``."""
    console = Console()
    if cfg.resume is not None:
        cfg, origin = resume_config(cfg, overrides=job.overrides, is_sweep=job.sweep_folder is not None)
    manifest = manifest_of(cfg, choices=job.choices, overrides=job.overrides, folder=job.folder, origin=origin)
    if origin is None:
        folder.begin(manifest)
    check_config(cfg, overrides=job.overrides)
    OmegaConf.set_readonly(cfg, True)
    if origin is None:
        OmegaConf.save(cfg, job.folder / "config.yaml", resolve=True)
    try:
        run = build_run(cfg, on_estimate=lambda estimate: _print_estimate(estimate, console))
    except ConfigError as error:
        if origin is None or "model.backbone.weights" not in str(error):
            raise
        raise ConfigError(f"{error}\nIf they only moved, say where they are: +model.backbone.weights=FOLDER") from error
    if origin is not None:
        # Nothing was written until here: a refusal leaves the run that it is about as it is.
        origin.check(
            data_hash=run.data.data_hash,
            split_hash=run.data.split.hash,
            num_steps=run.num_steps,
            stop_at_step=run.trainer.stop_at_step,
        )
        check_base(run.model, origin.checkpoint)
        folder.copy_checkpoints(origin.folder)
        folder.begin(manifest)
        OmegaConf.save(cfg, job.folder / "config.yaml", resolve=True)
    evidence = gather_evidence(run.data)
    folder.learn(facts_of(run, evidence))
    run.data.split.write(job.folder / "split.json")
    manifest |= {"num_steps": run.num_steps} | {key: folder.known[key] for key in MANIFEST_FACTS}
    folder.write_manifest(manifest)
    _announce(run, evidence, manifest, origin, console)
    folder.start_metrics(history=read_metrics(origin.folder, up_to_step=origin.step) if origin else [])
    identity = RunIdentity(study=cfg.study.name, sampler=manifest["sampler"], seed=cfg.seed, run_id=manifest["run_id"])
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
                _record_windows(run, readers["val"], folder)
                _probe_shortcuts(run, evidence, folder, console)
                mirror.log_videos(_drive(run, folder, console))
            except BaseException:
                _log.error("training is done and kept; python run.py resume=%s measures it again", folder.path)
                raise
        folder.write_summary(result.status)
        mirror.finish(folder.known)
    _print_end(result.status, folder.known, console)
    if result.stopped_by is not None:
        raise SystemExit(128 + result.stopped_by)
    return objective_of(result.progress.latest)


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
        return run.evaluation.measure(model, readers, action_names=names, split_seed=split_seed)

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


def _record_windows(run: Run, reader: Reader, folder: RunFolder) -> None:
    """Write what the trained policy gets wrong in each val window, as the last evaluation saw it."""
    with autocast(run.trainer.precision, run.trainer.torch_device()):
        errors = measure_windows(run.model, reader, batch_size=run.evaluation.batch_size)
    write_window_errors(errors, folder.path / WINDOW_ERRORS_FILE)
    write_hardest(errors, run.data.readers["val"], action_names=run.data.action_names, folder=folder.path)


def _probe_shortcuts(run: Run, evidence: Evidence, folder: RunFolder, console: Console) -> None:
    """Find out what the trained policy acts on; every run of a split is asked the same."""
    if not run.evaluation.shortcuts:
        return
    found = measure_shortcuts(
        run.model,
        reader=run.data.readers["val"],
        action_names=run.data.action_names,
        batch_size=run.evaluation.batch_size,
        stream=Stream(run.dataset.split_seed, "shortcuts"),
        references=evidence.baselines,
    )
    folder.learn(found)
    print_shortcuts(found, console)


def _drive(run: Run, folder: RunFolder, console: Console) -> dict[str, Path]:
    """Let the trained policy drive where its data come from the embedded world; return the videos by name."""
    if run.closed_loop is None:
        return {}
    policy = Policy(run.model, description_of(run), folder=folder.path)
    console.print("driving ...", style="dim")
    videos = folder.path / "videos"
    shutil.rmtree(videos, ignore_errors=True)  # of a run that ended here before it went on
    driven = run.closed_loop.measure(lambda _: policy, TaughtScenarios.of(run.data), videos)
    write_results(driven.results, folder.path / RESULTS_FILE)
    folder.learn({**driven.metrics, "closed_loop/videos": str(videos) if driven.videos else None})
    print_suites(driven.metrics, console)
    return driven.videos


def _announce(
    run: Run, evidence: Evidence, manifest: Mapping[str, Any], origin: Origin | None, console: Console
) -> None:
    console.rule(f"[bold]{manifest['run_id']}")
    print_evidence(evidence, console)
    trainable, total = run.model.num_parameters()
    console.print(
        f"training {f'from step {origin.step} ' if origin else ''}to step {run.num_steps}, {run.trainer.batch_size} "
        f"windows a step, {run.trainer.torch_device()}; {trainable:,} of {total:,} weights learn",
        soft_wrap=True,
    )
    drives = "nothing is driven (dataset.world is null, or closed_loop=none)"
    if run.closed_loop is not None:
        drives = f"{run.closed_loop.episodes} drives in each of {', '.join(run.closed_loop.suites)}"
    console.print(f"closed loop: {drives}", soft_wrap=True)
    warnings = [*run.data.warnings, *evidence.warnings(), *feature_warnings(run.model)]
    if reason := run.sampler.no_effect_reason():
        warnings.append(f"sampler={manifest['sampler']} cannot differ from shuffled on this data: {reason}")
    planned = origin.manifest["num_steps"] if origin else run.num_steps
    if planned != run.num_steps and run.trainer.decay_steps is None:
        warnings.append(
            f"the learning rate was to end at step {planned} and now ends at step {run.num_steps}: it jumps where the "
            "run goes on, and the curves are not those of one run of this length (trainer.decay_steps sets the end)"
        )
    print_warnings(warnings, console)


def _print_estimate(estimate: Estimate, console: Console) -> None:
    from mobile_vla.policy.backbones.vlm import DTYPES
    from mobile_vla.policy.estimate.device import available_bytes, matmul_flops_per_s
    from mobile_vla.policy.estimate.fit import print_estimate

    device = torch.device(estimate.workload.device_type)
    flops_per_s = matmul_flops_per_s(device, DTYPES[estimate.options.dtype], seconds=0.2)
    print_estimate(estimate, console, available_bytes=available_bytes(device), flops_per_s=flops_per_s)


def _print_end(status: str, known: Mapping[str, Any], console: Console) -> None:
    shown = [key for key in ("train/loss", "val/loss", "val/rmse", "unseen/rmse", "best/val/rmse") if known.get(key)]
    figures = "  ".join(f"{key} {known[key]:.4f}" for key in shown)
    console.print(f"[bold]{status}[/] after {known['steps']} steps, {known['wall_s']:.0f} s: {figures}")
    if "memory/peak_gib" in known:
        console.print(f"at most {known['memory/peak_gib']:.1f} GiB of memory were taken", style="dim")
    for name in ("checkpoint/last", "checkpoint/best", "url"):
        if known[name]:
            console.print(f"{name:16} {known[name]}", soft_wrap=True, markup=False, highlight=False)
