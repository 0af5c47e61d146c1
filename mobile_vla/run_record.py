"""Say of a run what its folder keeps: what ran, what was known before the first step, what came out after the last."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from mobile_vla.build import Run
from mobile_vla.closed_loop.taught import TaughtScenarios
from mobile_vla.evaluation.evidence import Evidence
from mobile_vla.metrics import ERROR
from mobile_vla.policy.checkpoint_folder import entries_of
from mobile_vla.policy.description import MAX_INSTRUCTIONS, PolicyDescription
from mobile_vla.policy.weights import Pretrained
from mobile_vla.tracking.provenance import code_commit, files_of, versions
from mobile_vla.tracking.run_folder import RunFolder
from mobile_vla.training.loop import Result
from mobile_vla.training.resume import Origin

MANIFEST_FACTS = ("data_hash", "split_hash", "parameters/trainable", "parameters/total")
"""What of the facts the manifest repeats: comparability is judged by them."""


def manifest_of(
    cfg: DictConfig, *, choices: dict[str, str], overrides: Sequence[str], folder: Path, origin: Origin | None
) -> dict[str, Any]:
    """Return what ran; a resumed run keeps the name, the choices and the overrides it began with.

    What was given when it went on stands in ``calls``.
    """
    if origin is not None:
        began, now = origin.manifest["commit"], code_commit()
        # Half a run of each is a run of neither: it must not be ranked with either.
        commit = now if began == now else f"{began}+{now}"
        return {**origin.manifest, "commit": commit, "versions": versions(), "resumed_from": str(origin.folder)}
    sampler = choices["sampler"]
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
    """Write ``.hydra`` into a run's ``folder``, as Hydra itself would before it is known who has the folder."""
    record = folder / ".hydra"
    record.mkdir(exist_ok=True)
    hydra = HydraConfig.get()
    OmegaConf.save(cfg, record / "config.yaml")
    OmegaConf.save({"hydra": hydra}, record / "hydra.yaml")
    OmegaConf.save(hydra.overrides.task, record / "overrides.yaml")


def facts_of(run: Run, evidence: Evidence) -> dict[str, Any]:
    """Return what the summary says of a run before its first step."""
    trainable, total = run.model.num_parameters()
    return {
        "data_hash": run.data.data_hash,
        "split_hash": run.data.split.hash,
        "batch_size": run.trainer.batch_size,
        "skipped_episodes": len(run.data.problems),
        "skipped": "\n".join(map(str, run.data.problems)),
        "parameters/trainable": trainable,
        "parameters/total": total,
        **_base_of(run),
        **evidence.baselines,
    }


def description_of(run: Run) -> PolicyDescription:
    """Return what inference needs of a run beside the weights."""
    train = [run.data.episodes[name] for name in run.data.split.train]
    return PolicyDescription(
        model=run.config["model"],
        action_names=run.data.action_names,
        window_size=run.dataset.window_size,
        fwd_pred_next_n=run.dataset.fwd_pred_next_n,
        padding=run.dataset.padding,
        image=run.data.image,
        instructions=tuple(sorted({episode.instruction for episode in train})[:MAX_INSTRUCTIONS]),
        world=None if run.dataset.world is None else TaughtScenarios.of(run.data).described(),
    )


def results_of(run: Run, result: Result, folder: RunFolder, url: str | None) -> dict[str, Any]:
    """Return what the summary says of a run after its last step."""
    progress = result.progress
    entries = entries_of(folder.checkpoints)
    best = [str(entry.path) for entry in entries if entry.kind == "best"]
    return {
        **{key: value for key, value in progress.latest.items() if key != "step"},
        f"best/{ERROR}": progress.best_val_rmse,
        "steps": progress.step,
        "samples_seen": progress.step * run.trainer.batch_size,
        "wall_s": progress.wall_s,
        "data_wait_s": progress.data_wait_s,
        "checkpoint/last": str(entries[0].path),
        "checkpoint/best": best[0] if best else None,  # None where it was damaged and none was better since
        "url": url,
    }


def _base_of(run: Run) -> dict[str, str]:
    backbone = run.model.backbone
    if not isinstance(backbone, Pretrained):
        return {}
    return {"base/weights": backbone.weights, "base/hash": backbone.base_hash}
