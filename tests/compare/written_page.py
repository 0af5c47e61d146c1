"""Write a small study that has everything the page draws."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
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


def write_full_run(root: Path, sampler: str, seed: int, rmse: float) -> Path:
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
        metrics={"val/rmse": rmse, "samples_seen": 9600.0, "baseline/mean/rmse": 0.5, **_slices(rmse)},
        log=log,
        drives={"seen": [True, True, False, True]},
    )
    _write_windows(folder, rmse)
    return folder


def _slices(rmse: float) -> Mapping[str, float]:
    found = {f"val/rmse/horizon_{k}": rmse + 0.01 * k for k in (1, 2, 10)}
    found |= {f"val/rmse/phase_{phase}": rmse + 0.02 * phase for phase in range(3)}
    found |= {f"sampler/phase_{phase}": 1 / 3 for phase in range(3)}
    for scenario, share in zip(SCENARIOS, (0.75, 0.25), strict=True):
        found[f"val/rmse/scenario_{scenario}"] = rmse
        found[f"sampler/share/{scenario}"] = found[f"sampler/target/{scenario}"] = share
    return {**found, "val/rmse/scenario_mean": rmse}


def _write_windows(folder: Path, rmse: float) -> None:
    with (folder / "val_windows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["episode", "frame", "scenario", "task", "phase", "squared_error", "num_targets", "loss"])
        for episode, frame in WINDOWS:
            writer.writerow([episode, frame, "left", "", 1, 4 * rmse**2, 4, 0.1])
    (folder / "hardest").mkdir()
    Image.fromarray(np.full((8, 32, 3), 90, np.uint8)).save(folder / "hardest" / "0.jpg")
    (folder / "hardest.json").write_text(json.dumps([_hard(rmse, *WINDOWS[1])]))


def _hard(rmse: float, episode: str, frame: int) -> Mapping[str, Any]:
    return {
        "episode": episode,
        "frame": frame,
        "scenario": "left",
        "phase": 1,
        "rmse": rmse,
        "predicted": [[0.1, 0.2], [0.3, 0.4]],
        "target": [[0.5, 0.5], [None, None]],
        "action_names": ["linear_x", "angular_z"],
        "image": "hardest/0.jpg",
    }
