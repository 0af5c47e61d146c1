"""Check before a sweep starts that its jobs include the study's baseline and controls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from mobile_vla.compare.data.pairs import within_settings
from mobile_vla.compare.data.planned import missing_runs
from mobile_vla.compare.data.runs import MISSING, UNKNOWN, RunRecord, load_runs, runs_by_label, settings_of
from mobile_vla.study.plan import PlannedJob


def label_warning(folder: Path, study: DictConfig, jobs: Sequence[PlannedJob]) -> str | None:
    """Return a warning that names the baseline and controls of ``study`` that no run has; None if none is missing.

    The runs are the planned ``jobs`` and those that are already in ``folder``. Their labels are those that the
    comparison will give when all of them have run.
    """
    planned = [_planned(folder, job) for job in jobs]
    begun = load_runs(folder) if any(folder.glob("*/manifest.json")) else []
    earlier = [run for run in begun if run.folder not in {job.folder for job in planned}]
    labels = runs_by_label([*planned, *earlier, *missing_runs(folder, [*planned, *earlier])])
    named = {study.baseline: "study.baseline"}
    named |= {label: "study.controls" for pair in study.controls.items() for label in pair if label not in named}
    if within_settings(labels, study.baseline):
        del named[study.baseline]
    unknown = [f"{key}: {label!r}" for label, key in named.items() if label not in labels]
    if not planned or not unknown:
        return None
    return (
        f"{', '.join(unknown)}: no job of this sweep has this label, and none was planned in {folder} before. Without "
        f"such a job it is in no comparison. The jobs are: {'; '.join(labels)}. Add it to the sweep, or name one of "
        "these."
    )


def _planned(folder: Path, job: PlannedJob) -> RunRecord:
    settings = settings_of({"choices": dict(job.choices), "overrides": list(job.overrides)})
    return RunRecord(
        folder=folder / job.folder,
        sampler=settings.get("sampler", UNKNOWN),
        seed=None,
        status=MISSING,
        error=None,
        settings=settings,
        summary={},
    )
