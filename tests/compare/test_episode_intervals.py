"""The interval over val episodes is about the episodes alone, and only there where the runs recorded their errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from written_runs import write_run

from mobile_vla.compare.data.comparison import compare_runs
from mobile_vla.compare.data.episode_errors import load_episode_errors
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.statistics.estimates import PairedDifference
from mobile_vla.errors import UserError

Windows = Mapping[str, Sequence[float]]


def windows(scale: float, *, episodes: int = 20, seed: int = 0, odd: float = 0.0) -> Windows:
    rng = np.random.default_rng(seed)
    hard = rng.lognormal(0, 0.6, size=episodes)
    return {
        f"e{index}": [scale * (value + (odd if index == 0 else 0)) * (1 + 0.01 * frame) for frame in range(5)]
        for index, value in enumerate(hard)
    }


def rmse(errors: Windows) -> float:
    flat = [error for episode in errors.values() for error in episode]
    return math.sqrt(sum(flat) / (4 * len(flat)))


def write(root: Path, sampler: str, seed: int, errors: Windows) -> Path:
    return write_run(root, sampler, seed, metrics={"val/rmse": rmse(errors)}, windows=errors)


def difference(root: Path) -> PairedDifference:
    rows = {row.label: row for row in compare_runs(load_runs(root)).rows}
    found = rows["stratified"].metrics["val/rmse"].difference
    assert found is not None
    return found


def test_what_is_worse_on_every_episode_is_worse_on_others_too(tmp_path: Path) -> None:
    for seed in range(2):
        write(tmp_path, "shuffled", seed, windows(1.0, seed=seed))
        write(tmp_path, "stratified", seed, windows(1.2, seed=seed))
    found = difference(tmp_path)
    assert found.mean is not None
    assert found.episode_interval is not None
    low, high = found.episode_interval
    assert 0 < low < found.mean < high


def test_what_one_episode_decides_may_be_otherwise_on_others(tmp_path: Path) -> None:
    for seed in range(5):
        write(tmp_path, "shuffled", seed, windows(1.0 + 0.001 * seed))
        write(tmp_path, "stratified", seed, windows(0.98 + 0.001 * seed, odd=5.0))
    found = difference(tmp_path)
    assert found.is_sure, "the seeds agree: on these episodes it is worse"
    assert found.episode_interval is not None
    assert found.episode_interval[0] < 0 < found.episode_interval[1]


def test_runs_that_recorded_nothing_have_none_and_lose_nothing(tmp_path: Path) -> None:
    for seed in range(2):
        write(tmp_path, "shuffled", seed, windows(1.0, seed=seed))
        write_run(tmp_path, "stratified", seed, metrics={"val/rmse": 0.1 + seed})
    found = difference(tmp_path)
    assert found.episode_interval is None
    assert found.interval is not None


def test_seeds_that_both_recorded_are_enough(tmp_path: Path) -> None:
    for seed in range(2):
        write(tmp_path, "shuffled", seed, windows(1.0, seed=seed))
    write(tmp_path, "stratified", 0, windows(1.2, seed=0))
    write_run(tmp_path, "stratified", 1, metrics={"val/rmse": 0.7})
    assert difference(tmp_path).episode_interval is not None


@pytest.mark.parametrize(("num_episodes", "has_interval"), [(1, False), (9, False), (10, True)])
def test_few_episodes_have_no_interval(tmp_path: Path, num_episodes: int, has_interval: bool) -> None:
    for sampler, scale in (("shuffled", 1.0), ("stratified", 1.2)):
        write(tmp_path, sampler, 0, windows(scale, episodes=num_episodes))
    assert (difference(tmp_path).episode_interval is not None) == has_interval


def test_another_primary_metric_has_no_interval_over_episodes(tmp_path: Path) -> None:
    for sampler in ("shuffled", "stratified"):
        errors = windows(1.0)
        metrics = {"val/rmse": rmse(errors), "val/loss": 0.1}
        write_run(tmp_path, sampler, 0, metrics=metrics, windows=errors, manifest={"primary": "val/loss"})
    comparison = compare_runs(load_runs(tmp_path))
    assert comparison.primary == "val/loss"
    assert all(
        metric.difference is None or metric.difference.episode_interval is None
        for row in comparison.rows
        for metric in row.metrics.values()
    )


def test_the_sums_give_the_rmse_of_the_summary(tmp_path: Path) -> None:
    write(tmp_path, "shuffled", 0, windows(1.0))
    (run,) = load_runs(tmp_path)
    errors = load_episode_errors(run)
    assert errors is not None
    assert errors.rmse == pytest.approx(run.numbers["val/rmse"])
    assert set(errors.num_targets.values()) == {20}


def test_windows_of_another_evaluation_are_an_error(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1}, windows=windows(1.0))
    with pytest.raises(UserError, match=rf"{folder.name}/val_windows.csv: its windows give val/rmse .* expected 0.1 "):
        compare_runs(load_runs(tmp_path))


def test_a_damaged_line_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = write(tmp_path, "shuffled", 0, {"e0": [1.0]})
    with (folder / "val_windows.csv").open("a") as file:
        file.write("e1,0,s,drive,0,\n")
    with pytest.raises(UserError, match=r"val_windows.csv: line 3 lacks"):
        compare_runs(load_runs(tmp_path))
