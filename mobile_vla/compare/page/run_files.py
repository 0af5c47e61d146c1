"""Read the files of a run that the page draws. A damaged file is left out of the plot, and a note names it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, NonNegativeFloat, NonNegativeInt, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from mobile_vla.compare.data.comparison import Comparison
from mobile_vla.compare.data.episode_errors import WINDOWS
from mobile_vla.compare.data.runs import RunRecord, is_finite_number
from mobile_vla.untrusted.files import csv_rows, inside, lines_of, parse_row, read_json

LOG = "metrics.jsonl"
HARDEST = "hardest.json"

WindowKey = tuple[str, int]
"""The episode and the current frame of a val window."""


@dataclass(frozen=True, kw_only=True)
class HardWindow:
    """One of a run's hardest val windows: RMSE in physical units, actions [K][A]; a missing number or row is None."""

    key: WindowKey
    scenario: str
    phase: int
    rmse: float
    action_names: Sequence[str]
    predicted_KA: Sequence[Sequence[float | None]]
    target_KA: Sequence[Sequence[float | None] | None]
    image: Path


@checked_dataclass(frozen=True, kw_only=True)
class _Entry:
    """One entry of ``hardest.json``; other keys are ignored."""

    episode: str
    frame: NonNegativeInt
    scenario: str
    phase: NonNegativeInt
    rmse: NonNegativeFloat
    action_names: list[str]
    predicted: list[list[FiniteFloat | None]]
    target: list[list[FiniteFloat | None] | None]
    image: str

    def __post_init__(self) -> None:
        rows = [*self.predicted, *(row for row in self.target if row is not None)]
        if not self.predicted or any(len(row) != len(self.action_names) for row in rows):
            raise ValueError("expected one number for each of action_names in each row of predicted and target")


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The data of one finished run for the page; fields are empty if the run's folder lacks the file.

    ``window_rmse`` has the RMSE of every val window at the last step. ``problems`` describes, by file name, the files
    that could not be read.
    """

    label: str
    seed: int
    run: RunRecord
    log: Sequence[Mapping[str, Any]]
    window_rmse: Mapping[WindowKey, float]
    hardest: Sequence[HardWindow]
    problems: Mapping[str, str]


def load_run_files(comparison: Comparison) -> list[RunFiles]:
    """Return the files of all finished runs, with treatments in the comparison's order and seeds ascending."""
    return [_load(row.label, seed, run) for row in comparison.rows for seed, run in row.finished.items()]


def problems_of(files: Sequence[RunFiles], name: str) -> tuple[str, ...]:
    """Return a text for each run whose file ``name`` is damaged."""
    return tuple(file.problems[name] for file in files if name in file.problems)


def without_file(files: Sequence[RunFiles], name: str) -> tuple[str, ...]:
    """Return a text with the number of runs that lack the file ``name``; empty if all runs have it or all lack it."""
    lacking = [file for file in files if not (file.run.folder / name).exists()]
    if not lacking or len(lacking) == len(files):
        return ()
    return (f"{len(lacking)} of {len(files)} runs have no {name}; they are left out.",)


def _load(label: str, seed: int, run: RunRecord) -> RunFiles:
    problems: dict[str, str] = {}
    found: dict[str, Any] = {}
    for name, read in ((LOG, _read_log), (WINDOWS, _read_windows), (HARDEST, _read_hardest)):
        try:
            found[name] = read(inside(run.folder, name)) if (run.folder / name).exists() else None
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            problems[name] = f"{run.folder.name}: {name} is damaged ({type(error).__name__}: {error}); it is left out."
    return RunFiles(
        label=label,
        seed=seed,
        run=run,
        log=found.get(LOG) or (),
        window_rmse=found.get(WINDOWS) or {},
        hardest=found.get(HARDEST) or (),
        problems=problems,
    )


def _read_log(path: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in parse_row(line, place=place).items() if is_finite_number(value)}
        for place, line in lines_of(path)
    ]


def _read_windows(path: Path) -> dict[WindowKey, float]:
    return {
        (row["episode"], int(row["frame"])): math.sqrt(_finite(row["squared_error"]) / int(row["num_targets"]))
        for _, row in csv_rows(path)
        if int(row["num_targets"])
    }


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _read_hardest(path: Path) -> list[HardWindow]:
    entries = TypeAdapter(list[_Entry]).validate_python(read_json(path))
    return [
        HardWindow(
            key=(entry.episode, entry.frame),
            scenario=entry.scenario,
            phase=entry.phase,
            rmse=entry.rmse,
            action_names=entry.action_names,
            predicted_KA=entry.predicted,
            target_KA=entry.target,
            image=inside(path.parent, entry.image),
        )
        for entry in entries
    ]
