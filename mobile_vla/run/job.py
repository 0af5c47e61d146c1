"""Run one job from its composed config: check it, build the run, train, measure, and record the result or failure."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mobile_vla.config import check_config
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.evaluation.data_report import DataReport, data_report_of
from mobile_vla.extras import missing_extra
from mobile_vla.policy.weights import check_base
from mobile_vla.process.console import new_console, printable
from mobile_vla.process.interruption import go_on_with, raising, received
from mobile_vla.run.build import Run, build_run
from mobile_vla.run.primary import best_by
from mobile_vla.run.record import MANIFEST_FACTS, facts_of, keep_hydras_record, manifest_of
from mobile_vla.run.startup_report import print_end, print_startup_report, show_estimate
from mobile_vla.run.stopped import command_to_go_on, signal_name
from mobile_vla.run.train import train_and_measure
from mobile_vla.storage.disk import unwritable_errors, write_atomically
from mobile_vla.study.earlier import resume_or_reset
from mobile_vla.study.finished import finished_value
from mobile_vla.study.summary import BEST_BY, objective_of
from mobile_vla.study.workers import is_worker, rest
from mobile_vla.tracking.calls import call_of, calls_of, longer_calls
from mobile_vla.tracking.ownership import OwnedElsewhereError, owned
from mobile_vla.tracking.run_folder import RunFolder, line_of, read_metrics
from mobile_vla.training.resume import Origin, resume_config
from mobile_vla.untrusted.composed import check_folder, check_source
from mobile_vla.untrusted.stored_config import say_data_read

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as Hydra describes it: its folder, the chosen option of each config group, overrides, the sweep's folder.

    ``has_terminal`` is False if a launcher runs several jobs in parallel: their progress bars would overwrite each
    other.
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
    """Run the job and return its final ``val/rmse``, or ``inner/rmse`` if that is measured (see ``objective_of``).

    A job of a sweep that is done is not run again. One that was started resumes if the result is exactly that of an
    uninterrupted run, and otherwise starts again. Nothing is written while another process owns the folder.

    A job that fails writes a summary with the status ``failed``. Outside of a sweep it then raises the error; a
    ``UserError`` is printed as a plain message with exit code 1. In a sweep it returns NaN, so that the other jobs run
    and the end of the sweep reports the failure. A job that is stopped by SIGINT, SIGTERM or SIGHUP writes a summary
    with the status ``stopped`` and raises ``SystemExit`` with 128 + the number of the signal.
    """
    job = Job.from_hydra()
    folder = RunFolder(job.folder)
    with raising(at_once=lambda: folder.stop(signal_name(received()))):
        if job.sweep_folder is None:
            # In a sweep the default stays: the command that started the sweep, which continues all its jobs.
            go_on_with(partial(command_to_go_on, folder, job.overrides, is_resumed=cfg.resume is not None))
        try:
            with unwritable_errors(job.folder):
                value = _run_owned(cfg, job, folder)
        except BaseException as error:
            if received() is None:
                return _failed(error, job, folder)
            value = math.nan  # after a signal any error counts as its effect, and the job as stopped
        if (number := received()) is not None:
            _end_stopped(number, folder)
        return value


def _run_owned(cfg: DictConfig, job: Job, folder: RunFolder) -> float:
    check_folder(job.folder)
    check_source(cfg, overrides=job.overrides)
    is_of_sweep = job.sweep_folder is not None and cfg.resume is None
    if is_of_sweep and (value := finished_value(job.folder, cfg)) is not None:
        new_console().print(f"{job.folder.name} is done already: {value:.4f}", highlight=False)
        return value
    with owned(job.folder):
        return _run(cfg, job, folder, origin=resume_or_reset(job.folder, cfg) if is_of_sweep else None)


def _failed(error: BaseException, job: Job, folder: RunFolder) -> float:
    """Record that the job failed, and raise or return what ``run_job`` does; call it inside the ``except`` block."""
    if isinstance(error, OwnedElsewhereError) and job.sweep_folder is not None:
        new_console().print(f"{job.folder.name} is running elsewhere: {error.owner}", highlight=False, soft_wrap=True)
        return math.nan
    if not isinstance(error, UserError) and (missing := missing_extra(error)) is not None:
        error = ConfigError(missing)
    _record_failure(folder, error)
    if not isinstance(error, Exception):
        raise error
    if job.sweep_folder is not None:
        reason = printable(str(error))
        _log.error("%s failed: %s", job.folder.name, reason, exc_info=not isinstance(error, UserError))
        return math.nan
    if isinstance(error, UserError):
        raise SystemExit(f"error: {printable(str(error))}") from error
    raise error


def _end_stopped(number: int, folder: RunFolder) -> NoReturn:
    """End the job that the signal ``number`` stopped, and the sweep that it belongs to."""
    folder.stop(signal_name(number))
    if is_worker():
        rest()
    raise SystemExit(128 + number)


def _record_failure(folder: RunFolder, error: BaseException) -> None:
    """Record that the run failed because of ``error``; if the disk is full, only the log can report it."""
    try:
        folder.fail(error)
    except OSError as failure:
        _log.error("%s: its summary cannot say that the run failed (%s)", folder.path, failure.strerror)


def _run(cfg: DictConfig, job: Job, folder: RunFolder, *, origin: Origin | None) -> float:
    """Check the config, build the run, print the report, train and measure; return the objective.

    ``origin`` is the run that an unfinished job of a sweep resumes; with ``cfg.resume`` the origin is that folder.
    """
    console, began, history = new_console(), cfg, []
    with ExitStack() as reading:
        if cfg.resume is not None:
            reading.enter_context(_owned_to_read(Path(cfg.resume), job.folder))
            cfg, began, origin = resume_config(cfg, overrides=job.overrides, is_sweep=job.sweep_folder is not None)
        manifest = manifest_of(cfg, choices=job.choices, overrides=job.overrides, folder=job.folder, origin=origin)
        if origin is None:
            keep_hydras_record(folder.path, cfg)
            _begin(folder, manifest, began)
        check_config(cfg, overrides=job.overrides)
        OmegaConf.set_readonly(cfg, True)
        if origin is not None:
            say_data_read(origin.folder, cfg, console)
        run = _build(cfg, origin, console)
        if origin is not None:
            # Nothing is written before this: if an error above refuses to resume, the run stays as it is.
            history = [line_of(row) for row in read_metrics(origin.folder, up_to_step=origin.step)]
            origin.copy_checkpoints(folder.path)
            call = call_of(step=origin.step, num_steps=run.num_steps, overrides=origin.overrides)
            manifest["calls"] = [*calls_of(origin.manifest), call]
            _begin(folder, manifest, began)
            folder.add_to_summary({"steps": origin.step, "samples_seen": origin.step * run.trainer.batch_size})
            origin = replace(origin, checkpoint=folder.checkpoints / origin.checkpoint.name)
            run = _within_plan(run, origin)
    report = data_report_of(run.data)
    manifest |= _record_facts(run, report, folder, manifest)
    folder.write_manifest(manifest)
    print_startup_report(run, report, manifest=manifest, origin=origin, console=console)
    result = train_and_measure(
        run,
        report,
        folder=folder,
        sweep_folder=job.sweep_folder,
        is_bar=job.has_terminal,
        manifest=manifest,
        history=history,
        origin=origin,
        console=console,
    )
    print_end(folder.status or result.status, folder.known, error=best_by(run), console=console)
    return objective_of({**result.progress.latest, BEST_BY: best_by(run)})


def _owned_to_read(origin: Path, folder: Path) -> AbstractContextManager[None]:
    """Return a context in which no other process writes the run in ``origin`` while it is read.

    If it is the job's own ``folder``, the job owns it already.
    """
    if not origin.is_dir() or origin.samefile(folder):
        return nullcontext()
    return owned(origin, to_read=True)


def _within_plan(run: Run, origin: Origin) -> Run:
    """Return ``run``, with the planned number of steps and an earlier stop if this call was given fewer steps.

    The learning rate then follows the plan, so that a later call continues as if training had not stopped here.
    """
    planned = origin.manifest["num_steps"]
    if run.num_steps >= planned:
        return run
    ends = [run.num_steps, run.trainer.stop_at_step or run.num_steps]
    return replace(run, num_steps=planned, trainer=replace(run.trainer, stop_at_step=min(ends)))


def _begin(folder: RunFolder, manifest: Mapping[str, Any], cfg: DictConfig) -> None:
    folder.begin(manifest, goes_on=manifest["resumed_from"] is not None)
    OmegaConf.save(cfg, folder.path / "config.yaml", resolve=True)


def _build(cfg: DictConfig, origin: Origin | None, console: Console) -> Run:
    """Read the data and build the run; raise ``UserError`` if it cannot resume from ``origin``."""
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


def _record_facts(run: Run, report: DataReport, folder: RunFolder, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Record what is known before the first step, and return the part that the manifest also has."""
    folder.add_to_summary(facts_of(run, report))
    if run.trainer.schedule.depends_on_the_end and (longer := longer_calls(manifest)):
        folder.add_to_summary({"schedule_changes": ", ".join(longer)})
    run.data.split.write(folder.path / "split.json")
    write_atomically(folder.path / "spec.json", run.data.spec.text())
    # The number of steps of a later call does not change the plan of the run.
    return {"num_steps": manifest.get("num_steps", run.num_steps)} | {key: folder.known[key] for key in MANIFEST_FACTS}
