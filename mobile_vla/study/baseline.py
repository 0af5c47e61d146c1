"""Notice before a sweep runs that nothing in it is what its study is held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobile_vla.compare.plan import load_study
from mobile_vla.compare.runs import MISSING, UNKNOWN, Run, runs_by_label, settings_of
from mobile_vla.study.plan import PlannedJob


def baseline_warning(folder: Path, baseline: str, jobs: Sequence[PlannedJob]) -> str | None:
    """Say that no run is called ``baseline``, of ``jobs`` and those in the sweep's ``folder``; None where one is.

    The labels are those that the comparison will give once all of these have run.
    """
    planned = [_planned(folder, job) for job in jobs]
    begun = load_study(folder) if any(folder.glob("*/manifest.json")) else []
    earlier = [run for run in begun if run.folder not in {job.folder for job in planned}]
    labels = runs_by_label([*earlier, *planned])
    if not planned or baseline in labels:
        return None
    return (
        f"study.baseline={baseline}: no job of this sweep is called so, and none was planned in {folder} before; "
        f"nothing will be held against it. The jobs are: {'; '.join(labels)}. Sweep it as well, or name one of these."
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
