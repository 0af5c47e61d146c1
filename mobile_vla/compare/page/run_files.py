"""Read of a run's folder what the page draws; a file that is damaged costs its run that drawing and is named."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobile_vla.compare.comparison import Comparison
from mobile_vla.compare.episodes import WINDOWS
from mobile_vla.compare.runs import Run

LOG = "metrics.jsonl"
HARDEST = "hardest.json"

WindowKey = tuple[str, int]
"""Episode and current frame of a val window."""


@dataclass(frozen=True, kw_only=True)
class HardWindow:
    """A val window among a run's hardest: RMSE in physical units, actions [K][A], None where no target exists."""

    key: WindowKey
    scenario: str
    phase: int
    rmse: float
    action_names: Sequence[str]
    predicted_KA: Sequence[Sequence[float]]
    target_KA: Sequence[Sequence[float | None] | None]
    image: Path


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """What the page needs of one finished run; what its folder lacks is empty.

    ``window_rmse`` is that of every val window at the last step. ``problems`` names, by file, what could not be read.
    """

    label: str
    seed: int
    run: Run
    log: Sequence[Mapping[str, Any]]
    window_rmse: Mapping[WindowKey, float]
    hardest: Sequence[HardWindow]
    problems: Mapping[str, str]


def load_run_files(comparison: Comparison) -> list[RunFiles]:
    """Read the folders of all finished runs, samplers in the comparison's order and seeds ascending."""
    return [_load(row.label, seed, run) for row in comparison.rows for seed, run in row.finished.items()]


def problems_of(files: Sequence[RunFiles], name: str) -> tuple[str, ...]:
    """Say which runs' file ``name`` is damaged and how."""
    return tuple(file.problems[name] for file in files if name in file.problems)


def without_file(files: Sequence[RunFiles], name: str) -> tuple[str, ...]:
    """Say how many runs have no file ``name`` where others do; nothing where all or none do."""
    lacking = [file for file in files if not (file.run.folder / name).exists()]
    if not lacking or len(lacking) == len(files):
        return ()
    return (f"{len(lacking)} of {len(files)} runs have no {name}; they are left out.",)


def _load(label: str, seed: int, run: Run) -> RunFiles:
    problems: dict[str, str] = {}
    found: dict[str, Any] = {}
    for name, read in ((LOG, _read_log), (WINDOWS, _read_windows), (HARDEST, _read_hardest)):
        path = run.folder / name
        try:
            found[name] = read(path) if path.exists() else None
        except (ValueError, KeyError, TypeError) as error:
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
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        row = json.loads(line)
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise ValueError(f"line {number} has no step")
        rows.append(row)
    return rows


def _read_windows(path: Path) -> dict[WindowKey, float]:
    with path.open(encoding="utf-8", newline="") as file:
        return {
            (row["episode"], int(row["frame"])): math.sqrt(float(row["squared_error"]) / int(row["num_targets"]))
            for row in csv.DictReader(file)
            if int(row["num_targets"])
        }


def _read_hardest(path: Path) -> list[HardWindow]:
    return [
        HardWindow(
            key=(str(entry["episode"]), int(entry["frame"])),
            scenario=str(entry["scenario"]),
            phase=int(entry["phase"]),
            rmse=float(entry["rmse"]),
            action_names=entry["action_names"],
            predicted_KA=entry["predicted"],
            target_KA=entry["target"],
            image=path.parent / entry["image"],
        )
        for entry in json.loads(path.read_text(encoding="utf-8"))
    ]
