"""Compute the jobs of a sweep before they run, and record all jobs that were ever planned in ``study.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from mobile_vla.compare.data.planned import PLAN, read_plan
from mobile_vla.config_keys import BUDGET, key_of
from mobile_vla.errors import ConfigError
from mobile_vla.storage.disk import write_atomically


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """One job: its folder relative to the sweep's, its overrides, the option of each config group, and its config."""

    folder: str
    overrides: tuple[str, ...]
    choices: Mapping[str, str]
    config: DictConfig


def plan_jobs(config: DictConfig) -> list[PlannedJob]:
    """Return the jobs that Hydra's basic sweeper will create from the ``config`` of a multirun.

    The list is empty if another sweeper is configured. Composing takes 0.1 s per job. Raises Hydra's own errors if an
    override is invalid, and ``ConfigError`` if two jobs would share a folder.
    """
    loader = GlobalHydra.instance().config_loader()
    jobs: dict[str, PlannedJob] = {}
    for number, overrides in enumerate(_expanded(config, loader)):
        composed = loader.load_sweep_config(config, overrides)
        # Hydra sets these when it starts the job; the job's folder may contain them.
        with open_dict(composed):
            composed.hydra.job.num = composed.hydra.job.id = number
        with _hydra_config(composed):
            folder = str(composed.hydra.sweep.subdir)
        if folder in jobs:
            raise ConfigError(
                f"two jobs of this sweep would share the folder {folder}: {' '.join(jobs[folder].overrides)} and "
                f"{' '.join(overrides)}. They train the same: sweep something that changes training, or set "
                "hydra.sweep.subdir='${hydra:job.num}'."
            )
        task = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        choices = {group: str(option) for group, option in composed.hydra.runtime.choices.items() if option is not None}
        jobs[folder] = PlannedJob(folder=folder, overrides=tuple(overrides), choices=choices, config=task)
    return list(jobs.values())


def _expanded(config: DictConfig, loader: ConfigLoader) -> list[list[str]]:
    """Return the overrides of each job, in Hydra's order; an empty list if the sweeper is not Hydra's basic sweeper.

    Hydra has no public function for this. A second parser of ``a=1,2``, ``range(...)`` and ``glob(*)`` here could
    differ from Hydra's, so this calls the basic sweeper's own class. It is the only use of Hydra's internals.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    if not config.hydra.sweeper._target_.endswith(BasicSweeper.__name__):
        return []
    arguments = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    parsed = OverridesParser.create(loader).parse_overrides([*arguments, *config.hydra.overrides.task])
    (expanded,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return expanded


def extended_plan(folder: Path, study: DictConfig, jobs: Sequence[PlannedJob]) -> dict[str, Any]:
    """Return the content of ``study.json`` after adding ``jobs`` to those already planned in the sweep's ``folder``.

    Raises ``ConfigError`` if the existing plan has another name, primary metric, baseline, controls or budget: choosing
    these after the results are known would bias the study. If no job of the existing plan has measured anything yet,
    the plan is replaced instead. Raises ``UserError`` if the file is damaged.
    """
    path = folder / PLAN
    asked_now = OmegaConf.to_container(study, resolve=True)
    assert isinstance(asked_now, dict)
    question = {key: asked_now[key] for key in ("name", "primary", "baseline", "controls")}
    planned = [{"folder": job.folder, "overrides": list(job.overrides)} for job in jobs]
    if not path.exists():
        return {**question, "jobs": planned}
    earlier = read_plan(path)
    changes = [f"study.{key}={then}, now {now}" for key, now in question.items() if (then := earlier.get(key)) != now]
    then, now = _budget(earlier["jobs"]), _budget(planned)
    if earlier["jobs"] and planned and then != now:
        changes.append(f"the budget {then}, now {now}")
    if changes and not any(_has_measured(folder / job["folder"]) for job in earlier["jobs"]):
        return {**question, "jobs": planned}
    if changes:
        raise ConfigError(
            f"{folder} holds a sweep that was planned with {'; '.join(changes)}. These are fixed before a study "
            "runs: give this one another name (study.name=...) or folder (hydra.sweep.dir=...)."
        )
    by_folder = {job["folder"]: job for job in [*earlier["jobs"], *planned]}
    return {**question, "jobs": list(by_folder.values())}


def write_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    """Write ``study.json``: the options of ``Study``, and ``jobs``, each with ``folder`` and ``overrides``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / PLAN, json.dumps(plan, indent=1) + "\n")


def _has_measured(job: Path) -> bool:
    rows = job / "metrics.jsonl"
    return rows.exists() and rows.stat().st_size > 0


def _budget(jobs: Sequence[Mapping[str, Any]]) -> str:
    given = [sorted(text for text in job["overrides"] if key_of(text) in BUDGET) for job in jobs]
    found = {" ".join(texts) or "of the config" for texts in given}
    return " or ".join(sorted(found))


@contextmanager
def _hydra_config(config: DictConfig) -> Iterator[None]:
    """Resolve ``${hydra:...}`` with ``config`` inside the block, as Hydra does while the job runs."""
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.set_config(config)
    try:
        yield
    finally:
        holder.cfg = before
