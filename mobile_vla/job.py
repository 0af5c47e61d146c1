"""Run one job from its composed config: check, open the data, train, and leave a run folder that says what happened."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mobile_vla import build
from mobile_vla.data.dataset import Dataset, OpenDataset
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.evaluation.evidence import Evidence, gather_evidence, print_evidence, print_warnings
from mobile_vla.tracking.provenance import code_commit, versions
from mobile_vla.tracking.run_folder import RunFolder, read_metrics
from mobile_vla.tracking.wandb_mirror import RunIdentity
from mobile_vla.training.live import LiveProgress
from mobile_vla.training.loop import Parts, Result, train
from mobile_vla.training.resume import Origin, resume_config

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What Hydra knows of a job: its folder, its choices in the config groups, its overrides, its sweep's folder."""

    folder: Path
    choices: dict[str, str]
    overrides: tuple[str, ...]
    sweep_folder: Path | None

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
        )


def run_job(cfg: DictConfig) -> float:
    """Run the job and return its final ``val/rmse``.

    A job that fails always leaves a summary that says so. Alone it then raises: a ``UserError`` as a plain message with
    exit code 1. In a sweep it returns NaN, so that its siblings run and the sweep's end can report it.
    """
    job = Job.from_hydra()
    folder = RunFolder(job.folder)
    facts: dict[str, Any] = {"sampler": job.choices["sampler"], "seed": cfg.seed, "study": cfg.study}
    try:
        return _run(cfg, job, folder, facts)
    except Exception as error:
        folder.fail(error, known=facts)
        if job.sweep_folder is not None:
            _log.error("%s failed: %s", job.folder.name, error, exc_info=not isinstance(error, UserError))
            return math.nan
        if isinstance(error, UserError):
            raise SystemExit(f"error: {error}") from error
        raise


def _run(cfg: DictConfig, job: Job, folder: RunFolder, facts: dict[str, Any]) -> float:
    console = Console()
    origin = None
    if cfg.resume is not None:
        cfg, origin = resume_config(cfg, overrides=job.overrides)
        job = replace(job, choices=origin.manifest["choices"], overrides=tuple(origin.manifest["overrides"]))
    manifest = _manifest(cfg, job, origin)
    folder.write_manifest(manifest)
    facts |= {key: manifest[key] for key in ("sampler", "seed", "study", "commit")}
    build.check_config(cfg)
    if conflict := build.conflicting_overrides(job.overrides):
        raise ConfigError(conflict)
    OmegaConf.set_readonly(cfg, True)
    OmegaConf.save(cfg, job.folder / "config.yaml", resolve=True)

    trainer, dataset = build.build_trainer(cfg), build.build_dataset(cfg)
    torch.set_num_threads(trainer.num_threads)
    data = dataset.open()
    num_steps = trainer.num_steps(len(data.windows["train"]))
    facts |= {
        "data_hash": data.data_hash,
        "split_hash": data.split.hash,
        "steps": num_steps,
        "batch_size": trainer.batch_size,
        "skipped_episodes": len(data.problems),
    }
    data.split.write(job.folder / "split.json")
    evidence = gather_evidence(data)
    facts |= evidence.baselines
    sampler = build.build_sampler(cfg, data)
    policy = build.build_policy(cfg, data)
    evaluation = build.build_evaluation(cfg)
    trainable, total = policy.num_parameters()
    facts |= {"parameters/trainable": trainable, "parameters/total": total}
    folder.write_manifest(manifest | {"parameters": {"trainable": trainable, "total": total}, **_hashes(facts)})

    console.rule(f"[bold]{manifest['run_id']}")
    print_evidence(evidence, console)
    console.print(
        f"training {num_steps} steps of {trainer.batch_size} windows on {trainer.torch_device()}, "
        f"{trainable:,} of {total:,} parameters trainable"
    )
    print_warnings(_warnings(data, evidence, sampler.no_effect_reason(), manifest["sampler"]), console)

    folder.start_metrics(history=read_metrics(origin.folder, up_to_step=origin.step) if origin else [])
    identity = RunIdentity(study=cfg.study, sampler=manifest["sampler"], seed=cfg.seed, run_id=manifest["run_id"])
    plain_config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain_config, dict)
    with (
        build.build_logger(cfg).open(
            identity, config=plain_config, folder=job.sweep_folder or job.folder, resume=origin is not None
        ) as mirror,
        LiveProgress(label=manifest["run_id"], num_steps=num_steps, console=console) as live,
    ):

        def log(row: dict[str, float]) -> None:
            folder.log(row)
            mirror.log(row)

        result = train(
            Parts(
                policy=policy,
                sampler=sampler,
                reader=data.readers["train"],
                augment=build.build_augmentation(cfg),
                evaluate=lambda policy: evaluation.measure(
                    policy, data.readers, action_names=data.action_names, split_seed=dataset.split_seed
                ),
                log=log,
                show=live.show,
                checkpoints=folder.checkpoints,
                description=_description(plain_config, dataset, data),
            ),
            trainer,
            num_steps=num_steps,
            resume_from=origin.checkpoint if origin else None,
        )
        summary = facts | _summary(result, folder, mirror.url)
        folder.write_summary(summary)
        mirror.finish(summary)
    _print_end(summary, console)
    if result.stopped_by is not None:
        raise SystemExit(128 + result.stopped_by)
    return float(summary.get("val/rmse", math.nan))


def _manifest(cfg: DictConfig, job: Job, origin: Origin | None) -> dict[str, Any]:
    sampler = origin.manifest["sampler"] if origin else job.choices["sampler"]
    digest = hashlib.blake2b(f"{job.folder}{OmegaConf.to_yaml(cfg)}".encode(), digest_size=4).hexdigest()
    run_id = origin.manifest["run_id"] if origin else f"{re.sub(r'[^a-zA-Z0-9_-]', '_', sampler)}-s{cfg.seed}-{digest}"
    return {
        "run_id": run_id,
        "study": cfg.study,
        "sampler": sampler,
        "seed": cfg.seed,
        "choices": job.choices,
        "overrides": list(job.overrides),
        "commit": code_commit(),
        "versions": versions(),
        "resumed_from": str(origin.folder) if origin else None,
    }


def _hashes(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: facts[key] for key in ("data_hash", "split_hash")}


def _description(config: dict[str, Any], dataset: Dataset, data: OpenDataset) -> dict[str, Any]:
    return {
        "model": config["model"],
        "action_names": list(data.action_names),
        "window_size": dataset.window_size,
        "fwd_pred_next_n": dataset.fwd_pred_next_n,
        "image": asdict(data.image),
    }


def _warnings(data: OpenDataset, evidence: Evidence, no_effect_reason: str | None, sampler: str) -> list[str]:
    found = [*data.warnings, *evidence.warnings()]
    if no_effect_reason:
        found.append(f"sampler={sampler} cannot differ from shuffled on this data: {no_effect_reason}")
    return found


def _summary(result: Result, folder: RunFolder, url: str | None) -> dict[str, Any]:
    progress = result.progress
    return {
        **{key: value for key, value in progress.latest.items() if key != "step"},
        "best/val/rmse": progress.best_val_rmse,
        "status": result.status,
        "steps": progress.step,
        "wall_s": progress.wall_s,
        "data_wait_s": progress.data_wait_s,
        "checkpoint/last": str(folder.checkpoints / "last"),
        "checkpoint/best": str(folder.checkpoints / "best"),
        "url": url,
    }


def _print_end(summary: dict[str, Any], console: Console) -> None:
    shown = [key for key in ("train/loss", "val/loss", "val/rmse", "unseen/rmse", "best/val/rmse") if key in summary]
    figures = "  ".join(f"{key} {summary[key]:.4f}" for key in shown if summary[key] is not None)
    console.print(f"[bold]{summary['status']}[/] after {summary['steps']} steps, {summary['wall_s']:.0f} s: {figures}")
    console.print(f"checkpoints {summary['checkpoint/last']}  {Path(summary['checkpoint/best']).name}", soft_wrap=True)
    if summary["url"]:
        console.print(f"W&B {summary['url']}", soft_wrap=True)
