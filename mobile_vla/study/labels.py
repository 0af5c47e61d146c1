"""Notice before a sweep runs that nothing in it is what its study holds against each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from mobile_vla.compare.plan import missing_runs
from mobile_vla.compare.runs import MISSING, UNKNOWN, Run, load_runs, runs_by_label, settings_of
from mobile_vla.study.plan import PlannedJob


def label_warning(folder: Path, study: DictConfig, jobs: Sequence[PlannedJob]) -> str | None:
    """Say which labels of ``study``'s baseline and controls no run has, of ``jobs`` and those in ``folder`` already.

    The labels are those that the comparison will give once all of these have run; None where none is missing.
    """
    planned = [_planned(folder, job) for job in jobs]
    begun = load_runs(folder) if any(folder.glob("*/manifest.json")) else []
    earlier = [run for run in begun if run.folder not in {job.folder for job in planned}]
    labels = runs_by_label([*planned, *earlier, *missing_runs(folder, [*planned, *earlier])])
    named = {study.baseline: "study.baseline"}
    named |= {label: "study.controls" for pair in study.controls.items() for label in pair if label not in named}
    unknown = [f"{key}: {label!r}" for label, key in named.items() if label not in labels]
    if not planned or not unknown:
        return None
    return (
        f"{', '.join(unknown)}: no job of this sweep is called so, and none was planned in {folder} before; until one "
        f"is, it is part of no comparison. The jobs are: {'; '.join(labels)}. Sweep it as well, or name one of these."
    )


def _planned(folder: Path, job: PlannedJob) -> Run:
    settings = settings_of({"choices": dict(job.choices), "overrides": list(job.overrides)})
    return Run(
        folder=folder / job.folder,
        sampler=settings.get("sampler", UNKNOWN),
        seed=None,
        status=MISSING,
        error=None,
        settings=settings,
        summary={},
    )
