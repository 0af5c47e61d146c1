"""Write run folders as a training leaves them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mobile_vla.spec import Camera, Spec, known_signal

SPEC = Spec(
    actions=(known_signal("linear_x"), known_signal("linear_y")),
    cameras=(Camera(name="camera", rows=64, columns=64),),
)
SHARED = {"steps": 500, "batch_size": 32, "commit": "0123456789abcdef", "data_hash": "d1", "split_hash": "s1"}
CHOICES = {"dataset": "sim", "model": "compact", "augmentation": "none", "hydra/launcher": "basic", "experiment": None}


def write_run(
    root: Path,
    sampler: str,
    seed: int,
    *,
    metrics: Mapping[str, Any] | None = None,
    choices: Mapping[str, str] | None = None,
    overrides: Iterable[str] = (),
    log: Iterable[Mapping[str, float | None]] = (),
    drives: Mapping[str, Sequence[bool]] | None = None,
    states: Mapping[str, str] | None = None,
    manifest: Mapping[str, Any] | None = None,
    windows: Mapping[str, Sequence[float]] | None = None,
    spec: Spec | None = SPEC,
    **summary: Any,
) -> Path:
    """Write a finished run into a new sub-folder; ``summary`` entries that are None are removed from its summary.

    ``drives`` says by suite which initial states (0, 1, ...) the closed loop succeeded from, ``states`` what
    the suite's states are called (one name for all runs by default). ``manifest`` adds to it; ``windows`` holds, by val
    episode, the squared error of each of its windows, which have 4 targets. ``spec`` describes its actions.
    """
    folder = root / f"{len(list(root.glob('*')))}-anything"
    folder.mkdir(parents=True)
    recorded = {
        "choices": {**CHOICES, "sampler": sampler, **(choices or {})},
        "overrides": [f"sampler={sampler}", f"seed={seed}", *overrides],
        "seed": seed,
        **(manifest or {}),
    }
    content = {
        "status": "done",
        "sampler": sampler,
        "seed": seed,
        "wall_s": 95.0,
        **SHARED,
        **(metrics or {}),
        **_closed_loop(drives or {}, states or {}),
        **summary,
    }
    write_json(folder / "manifest.json", recorded)
    write_json(folder / "summary.json", {key: value for key, value in content.items() if value is not None})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in log))
    if spec is not None:
        (folder / "spec.json").write_text(spec.text())
    if drives is not None:
        (folder / "episode_results.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in _results(drives)))
    if windows is not None:
        (folder / "val_windows.csv").write_text("".join(f"{line}\n" for line in _windows(windows)))
    return folder


def write_failed(root: Path, sampler: str, seed: int, *, error: str) -> Path:
    """Write a run that failed before it knew anything about its data."""
    folder = write_run(root, sampler, seed)
    write_json(folder / "summary.json", {"status": "failed", "error": error, "sampler": sampler, "seed": seed})
    return folder


def write_study(root: Path, rmse: Mapping[str, Iterable[float]], **summary: Any) -> None:
    """Write one finished run a value: ``rmse`` holds the val/rmse of seeds 0, 1, ... by sampler."""
    for sampler, values in rmse.items():
        for seed, value in enumerate(values):
            write_run(root, sampler, seed, metrics={"val/rmse": value, "val/loss": value**2, **summary})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write one JSON object; NaN is written as Python does, as a careless writer would."""
    path.write_text(json.dumps(content))


def _closed_loop(drives: Mapping[str, Sequence[bool]], states: Mapping[str, str]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for suite, successes in drives.items():
        summary |= {
            f"closed_loop/{suite}/success_rate": sum(successes) / len(successes),
            f"closed_loop/{suite}/collision_rate": 1 - sum(successes) / len(successes),
            f"closed_loop/{suite}/success_rate/scenario_1box_vert_left": 0.5,
            f"closed_loop/{suite}/success_rate/scenario_mean": sum(successes) / len(successes),
            f"closed_loop/{suite}/failure/late_turn": 0.25,
            f"closed_loop/{suite}/episodes": len(successes),
            f"closed_loop/{suite}/states": states.get(suite, f"states of {suite}"),
        }
    return summary


def _results(drives: Mapping[str, Sequence[bool]]) -> Iterable[Mapping[str, Any]]:
    for suite, successes in drives.items():
        for index, success in enumerate(successes):
            outcome = "success" if success else "collision"
            yield {"suite": suite, "index": index, "side": "left", "outcome": outcome, "success": bool(success)}


def _windows(windows: Mapping[str, Sequence[float]]) -> Iterable[str]:
    yield "episode,frame,scenario,task,phase,squared_error,num_targets,loss"
    for episode, errors in windows.items():
        yield from (f"{episode},{frame},1box_vert_left,drive,0,{error},4,0.1" for frame, error in enumerate(errors))
