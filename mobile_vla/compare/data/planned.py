"""Read the plan of a study, so that jobs that never started are listed as missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mobile_vla.compare.data.runs import MISSING, UNKNOWN, RunRecord, load_runs, settings_of, text_or_none, texts_in
from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import inside, read_json, walk

PLAN = "study.json"


def load_study(folder: Path) -> list[RunRecord]:
    """Return every run in ``folder`` or below and, with status MISSING, every planned job that has no run folder.

    A plan is a ``study.json`` with ``primary``, ``baseline``, ``controls`` and ``jobs``. Each job has a ``folder``,
    relative to the plan's, and its ``overrides``. Raises UserError if there is no run or a plan is damaged.
    """
    runs = load_runs(folder)
    return [*runs, *missing_runs(folder, runs)]


def missing_runs(folder: Path, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Return, with status MISSING, every job of the plans in ``folder`` or below that is not among ``runs``.

    Raises UserError if a plan is damaged.
    """
    begun = {run.folder.resolve() for run in runs}
    plans = sorted(path / PLAN for path, names in walk(folder) if PLAN in names)
    return [run for plan in plans for run in _planned(plan, runs) if run.folder.resolve() not in begun]


def read_plan(path: Path) -> dict[str, Any]:
    """Return the content of the plan ``path``, whose ``jobs`` each have a ``folder`` and a list of ``overrides``.

    Raises UserError if it is damaged, or if a job's relative folder lies outside the plan's folder.
    """
    try:
        plan = read_json(path)
        jobs = [{"folder": str(job["folder"]), "overrides": list(map(str, job["overrides"]))} for job in plan["jobs"]]
        for job in jobs:
            if not Path(job["folder"]).is_absolute():
                inside(path.parent, job["folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read as the plan of a study ({type(error).__name__}: {error}); expected an object with "
            "'jobs', each with 'folder' and 'overrides'. Remove it: the next call of the sweep writes a new one."
        ) from error
    return {**plan, "jobs": jobs}


def _planned(path: Path, runs: Sequence[RunRecord]) -> list[RunRecord]:
    plan = read_plan(path)
    jobs = [(Path(job["folder"]), job["overrides"]) for job in plan["jobs"]]
    given = [settings_of({"overrides": overrides}) for _, overrides in jobs]
    shared = _shared(run for run in runs if run.folder.is_relative_to(path.parent))
    # A missing job has only its overrides. All other settings that the started jobs have in common are assumed for it
    # too: otherwise it would get another label.
    common = {key: value for key, value in shared.items() if not any(key in settings for settings in given)}
    return [
        # Only the name of an absolute folder is kept: the sweep may have been moved since.
        _missing(path.parent / (folder.name if folder.is_absolute() else folder), {**common, **settings}, plan)
        for (folder, _), settings in zip(jobs, given, strict=True)
    ]


def _missing(folder: Path, settings: Mapping[str, str], plan: Mapping[str, Any]) -> RunRecord:
    seed = settings.get("seed", "")
    return RunRecord(
        folder=folder,
        sampler=settings.get("sampler", UNKNOWN),
        seed=int(seed) if seed.removeprefix("-").isdecimal() else None,
        status=MISSING,
        error="planned and never begun",
        settings=settings,
        summary={},
        primary=text_or_none(plan.get("primary")),
        baseline=text_or_none(plan.get("baseline")),
        controls=texts_in(plan, "controls"),
    )


def _shared(runs: Iterable[RunRecord]) -> dict[str, str]:
    recorded = [run.settings for run in runs if run.settings]
    if not recorded:
        return {}
    return dict(set(recorded[0].items()).intersection(*(settings.items() for settings in recorded[1:])))
