"""Write a small study that has everything the page draws."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from written_runs import write_run

SAMPLERS = {"shuffled": 0.30, "stratified": 0.27, "sequential": 0.36}
SCENARIOS = ("left", "right")
NUM_SEEDS, STEPS = 3, (0, 100, 200, 300)
WINDOWS = tuple((f"episode_{index % 3}", 5 * index) for index in range(6))


def write_page_study(root: Path) -> None:
    """Write three samplers of three seeds with logs, slices, draws, drives, val windows and hardest windows."""
    for sampler, rmse in SAMPLERS.items():
        for seed in range(NUM_SEEDS):
            write_full_run(root, sampler, seed, rmse + 0.01 * seed)


def write_wide_study(root: Path, *, num_actions: int) -> None:
    """Write runs of a robot with many signals, whose names and those of samplers, scenarios and paths are long."""
    scenarios = ("Pick_up_the_yellow_bottle_that_stands_on_the_kitchen_table", "Wipe_the_table_with_the_blue_sponge")
    for sampler, rmse in SAMPLERS.items():
        for state in ("all", "none"):
            for seed in range(2):
                write_full_run(
                    root,
                    sampler,
                    seed,
                    rmse + 0.01 * seed,
                    scenarios=scenarios,
                    action_names=[f"kRightShoulderPitchOfJoint{joint}" for joint in range(num_actions)],
                    overrides=[f"model.state={state}", f"dataset.path=/data/{'recordings' * 6}/{'_' * 60}x"],
                )


def write_full_run(
    root: Path,
    sampler: str,
    seed: int,
    rmse: float,
    *,
    scenarios: Sequence[str] = SCENARIOS,
    action_names: Sequence[str] = ("linear_x", "angular_z"),
    overrides: Sequence[str] = (),
) -> Path:
    """Write one run with every file; its val windows give ``rmse``."""
    log = [
        {
            "step": step,
            "samples_seen": 32 * step,
            "wall_s": 0.5 * step + seed,
            "val/rmse": rmse + 1 / (step + 10),
            "train/loss": rmse,
            **({} if step == 0 else {"sampler/coverage": step / STEPS[-1]}),
        }
        for step in STEPS
    ]
    folder = write_run(
        root,
        sampler,
        seed,
        metrics={"val/rmse": rmse, "samples_seen": 9600.0, "baseline/mean/rmse": 0.5, **_slices(rmse, scenarios)},
        overrides=overrides,
        log=log,
        drives={"seen": [True, True, False, True]},
    )
    _write_windows(folder, rmse, scenarios[0], action_names)
    return folder


def _slices(rmse: float, scenarios: Sequence[str]) -> Mapping[str, float]:
    found = {f"val/rmse/horizon_{k}": rmse + 0.01 * k for k in (1, 2, 10)}
    found |= {f"val/rmse/phase_{phase}": rmse + 0.02 * phase for phase in range(3)}
    found |= {f"sampler/phase_{phase}": 1 / 3 for phase in range(3)}
    for scenario, share in zip(scenarios, (0.75, 0.25), strict=True):
        found[f"val/rmse/scenario_{scenario}"] = rmse
        found[f"sampler/share/{scenario}"] = found[f"sampler/target/{scenario}"] = share
    return {**found, "val/rmse/scenario_mean": rmse}


def _write_windows(folder: Path, rmse: float, scenario: str, action_names: Sequence[str]) -> None:
    with (folder / "val_windows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["episode", "frame", "scenario", "task", "phase", "squared_error", "num_targets", "loss"])
        for episode, frame in WINDOWS:
            writer.writerow([episode, frame, scenario, "", 1, 4 * rmse**2, 4, 0.1])
    (folder / "hardest").mkdir()
    Image.fromarray(np.full((8, 32, 3), 90, np.uint8)).save(folder / "hardest" / "0.jpg")
    (folder / "hardest.json").write_text(json.dumps([_hard(rmse, *WINDOWS[1], scenario, action_names)]))


def _hard(rmse: float, episode: str, frame: int, scenario: str, action_names: Sequence[str]) -> Mapping[str, Any]:
    return {
        "episode": episode,
        "frame": frame,
        "scenario": scenario,
        "phase": 1,
        "rmse": rmse,
        "predicted": [[0.1 + 0.1 * index for index in range(len(action_names))], [0.3] * len(action_names)],
        "target": [[0.5] * len(action_names), [None] * len(action_names)],
        "action_names": list(action_names),
        "image": "hardest/0.jpg",
    }
