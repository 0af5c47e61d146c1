"""The records of a run in its folder: the manifest, the facts before the first step, the results after the last."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from mobile_vla.closed_loop.trained_scenarios import TrainedScenarios
from mobile_vla.evaluation.data_report import DataReport
from mobile_vla.policy.checkpoint_folder import entries_of
from mobile_vla.policy.description import MAX_INSTRUCTIONS, PolicyDescription
from mobile_vla.run.build import Run
from mobile_vla.run.primary import best_by, primary_of
from mobile_vla.study.summary import BEST_BY
from mobile_vla.tracking.provenance import code_commit, files_of, versions
from mobile_vla.tracking.run_folder import RunFolder
from mobile_vla.training.loop import Result
from mobile_vla.training.resume import Origin

MANIFEST_FACTS = ("data_hash", "split_hash", "parameters/trainable", "parameters/total", "primary")
"""The facts that the manifest also has: they decide whether two runs may be compared.

``primary`` is there from the beginning, as the config says it; with ``auto`` the data decide which error it is.
"""


def manifest_of(
    cfg: DictConfig, *, choices: dict[str, str], overrides: Sequence[str], folder: Path, origin: Origin | None
) -> dict[str, Any]:
    """Return the run's manifest; a resumed run keeps the name, the choices and the overrides it began with.

    The overrides of later calls are in ``calls``.
    """
    if origin is not None:
        began, now = origin.manifest["commit"], code_commit()
        # A run that was trained with two versions of the code must not be ranked with runs of either version.
        commit = now if began == now else f"{began}+{now}"
        return {**origin.manifest, "commit": commit, "versions": versions(), "resumed_from": str(origin.folder)}
    sampler = choices["sampler"]
    # With the folder in the digest, runs of one config in different folders have different ids.
    digest = hashlib.blake2b(f"{folder}{OmegaConf.to_yaml(cfg)}".encode(), digest_size=4).hexdigest()
    run_id = f"{re.sub(r'[^a-zA-Z0-9_-]', '_', sampler)}-s{cfg.seed}-{digest}"
    return {
        "run_id": run_id,
        "study": cfg.study.name,
        "primary": cfg.study.primary,
        "baseline": cfg.study.baseline,
        "controls": dict(cfg.study.controls or {}),
        "sampler": sampler,
        "seed": cfg.seed,
        "choices": choices,
        "overrides": list(overrides),
        "commit": code_commit(),
        "files": files_of(OmegaConf.to_container(cfg, resolve=True)),
        "versions": versions(),
        "resumed_from": None,
        "calls": [],
    }


def keep_hydras_record(folder: Path, cfg: DictConfig) -> None:
    """Write ``.hydra`` into a run's ``folder`` as Hydra does.

    Hydra itself would write it before this process owns the folder, so conf/config.yaml turns that off.
    """
    record = folder / ".hydra"
    record.mkdir(exist_ok=True)
    hydra = HydraConfig.get()
    OmegaConf.save(cfg, record / "config.yaml")
    OmegaConf.save({"hydra": hydra}, record / "hydra.yaml")
    OmegaConf.save(hydra.overrides.task, record / "overrides.yaml")


def facts_of(run: Run, report: DataReport) -> dict[str, Any]:
    """Return the entries of the summary that are known before the first step."""
    trainable, total = run.model.num_parameters()
    return {
        "data_format": run.data.format,
        "data_hash": run.data.data_hash,
        "split_hash": run.data.split.hash,
        "primary": primary_of(run),
        BEST_BY: best_by(run),
        "batch_size": run.trainer.batch_size,
        "skipped_episodes": sum(problem.num_episodes for problem in run.data.problems),
        "skipped": "\n".join(map(str, run.data.problems)),
        "parameters/trainable": trainable,
        "parameters/total": total,
        **_base_of(run),
        **report.baselines,
    }


def description_of(run: Run) -> PolicyDescription:
    """Return what inference needs in addition to the weights."""
    train = [run.data.episodes[name] for name in run.data.split.train]
    return PolicyDescription(
        model=run.config["model"],
        spec=run.data.spec,
        window_size=run.dataset.window_size,
        fwd_pred_next_n=run.dataset.fwd_pred_next_n,
        padding=run.dataset.padding,
        image=run.data.image,
        instructions=tuple(sorted({episode.instruction for episode in train})[:MAX_INSTRUCTIONS]),
        world=None if run.dataset.world is None else TrainedScenarios.of(run.data).described(),
    )


def results_of(run: Run, result: Result, folder: RunFolder, url: str | None) -> dict[str, Any]:
    """Return the entries of the summary that are known after the last step."""
    progress = result.progress
    entries = entries_of(folder.checkpoints)
    best = [str(entry.path) for entry in entries if entry.kind == "best"]
    return {
        **{key: value for key, value in progress.latest.items() if key != "step"},
        f"best/{best_by(run)}": progress.best_error,
        "steps": progress.step,
        "samples_seen": progress.step * run.trainer.batch_size,
        "wall_s": progress.wall_s,
        "data_wait_s": progress.data_wait_s,
        "checkpoint/last": str(entries[0].path),
        "checkpoint/best": best[0] if best else None,  # None if it was damaged and no later one was better
        "url": url,
    }


def _base_of(run: Run) -> dict[str, str]:
    backbone = run.model.backbone
    if backbone.weights is None:
        return {}
    return {"base/weights": backbone.weights, "base/hash": str(backbone.base_hash)}
