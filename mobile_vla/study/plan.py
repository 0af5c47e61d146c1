"""Know the jobs of a sweep before they run, and keep the list of all that were ever planned in ``study.json``."""

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

from mobile_vla.compare.plan import PLAN, read_plan
from mobile_vla.config_keys import BUDGET, key_of
from mobile_vla.disk import write_atomically
from mobile_vla.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """One job: its folder below the sweep's, its overrides, its choices by group, and the config it will be given."""

    folder: str
    overrides: tuple[str, ...]
    choices: Mapping[str, str]
    config: DictConfig


def plan_jobs(config: DictConfig) -> list[PlannedJob]:
    """Return the jobs that Hydra's own sweeper will make of the ``config`` of a multirun; none where another sweeps.

    Takes 0.1 s a job, as each is composed. Hydra's errors are raised where an override does not fit.
    ``ConfigError`` where two jobs would share a folder.
    """
    loader = GlobalHydra.instance().config_loader()
    jobs: dict[str, PlannedJob] = {}
    for number, overrides in enumerate(_expanded(config, loader)):
        composed = loader.load_sweep_config(config, overrides)
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
    """Return the overrides of each job, in Hydra's order; none where another sweeper than Hydra's own decides.

    Hydra says this nowhere in public, and parsing ``a=1,2``, ``range(...)`` and ``glob(*)`` a second time would drift
    from it: this asks its sweeper's own class. It is the one place that reaches into Hydra's internals.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    if not config.hydra.sweeper._target_.endswith(BasicSweeper.__name__):
        return []
    arguments = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    parsed = OverridesParser.create(loader).parse_overrides([*arguments, *config.hydra.overrides.task])
    (expanded,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return expanded


def extended_plan(folder: Path, study: DictConfig, jobs: Sequence[PlannedJob]) -> dict[str, Any]:
    """Return the content of ``study.json`` once ``jobs`` are added to what was planned in the sweep's ``folder``.

    ``ConfigError`` where what was planned there answers another question: another name, primary metric, baseline,
    controls or budget. While no job of it has measured anything it is replaced. ``UserError`` where it is damaged.
    """
    path = folder / PLAN
    asked_now = OmegaConf.to_container(study)
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
            f"{folder} holds a sweep that was planned with {'; '.join(changes)}. What decides a study is named "
            "before it runs: give this one another name (study.name=...) or folder (hydra.sweep.dir=...)."
        )
    by_folder = {job["folder"]: job for job in [*earlier["jobs"], *planned]}
    return {**question, "jobs": list(by_folder.values())}


def write_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    """Write ``study.json``: the question (the keys of ``Study``) and ``jobs``, each a ``folder`` and ``overrides``."""
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
    """Let ``${hydra:...}`` mean ``config``, as it does while the job runs."""
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.set_config(config)
    try:
        yield
    finally:
        holder.cfg = before
