"""A comparison asks what the study asked before it ran, and misses every job that was planned."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from written_runs import write_failed, write_json, write_run, write_study

from mobile_vla.compare.data.comparability import ComparabilityError
from mobile_vla.compare.data.comparison import compare_runs
from mobile_vla.compare.data.planned import load_study
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.report import compare_folder
from mobile_vla.compare.verdict.ranks import rank_sentences
from mobile_vla.errors import UserError


def write_plan(root: Path, jobs: Mapping[str, list[str]], **content: Any) -> None:
    listed = [{"folder": folder, "overrides": overrides} for folder, overrides in jobs.items()]
    write_json(root / "study.json", {"name": "default", "primary": "val/rmse", "jobs": listed, **content})


def begun(root: Path) -> dict[str, list[str]]:
    return {run.folder.name: [f"sampler={run.sampler}", f"seed={run.seed}"] for run in load_runs(root)}


def shown(root: Path) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    compare_folder(root, console=console)
    return console.export_text()


def test_jobs_that_never_began_are_missed_everywhere(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": [0.1, 0.2], "stratified": [0.1]})
    write_failed(tmp_path, "stratified", 2, error="disk full")
    never = {"a": ["sampler=stratified", "seed=1"], "b": ["sampler=rho", "seed=0"], "c": ["sampler=rho", "seed=1"]}
    write_plan(tmp_path, {**begun(tmp_path), **never})
    text = shown(tmp_path)
    assert (
        "4 of 7 jobs are missing: stratified seed 2 (failed); stratified seed 1 (missing); rho seeds 0 and 1 (missing)."
        in text
    )
    assert any(line.startswith("rho") and "missing" in line and "0." not in line for line in text.splitlines())
    assert "(1 failed) (1 missing)" in text
    assert "4 runs" in text
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert [(run["sampler"], run["seed"], run["folder"]) for run in content["missing_runs"]] == [
        ("stratified", 1, "a"),
        ("rho", 0, "b"),
        ("rho", 1, "c"),
    ]
    assert {row["sampler"]: row["missing"] for row in content["rows"]} == {"shuffled": 0, "stratified": 1, "rho": 2}
    with (tmp_path / "comparison.csv").open(newline="") as file:
        assert [line["status"] for line in csv.DictReader(file)].count("missing") == 3


def test_a_job_that_began_is_not_missing_wherever_the_sweep_was_moved(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": [0.1, 0.2]})
    write_plan(tmp_path, {f"/elsewhere/{folder}": overrides for folder, overrides in begun(tmp_path).items()})
    assert [run.status for run in load_study(tmp_path)] == ["done", "done"]


def test_a_study_without_a_plan_misses_nothing(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": [0.1, 0.2]})
    assert load_study(tmp_path) == load_runs(tmp_path)


def test_a_missing_job_has_the_label_of_its_sampler_and_options(tmp_path: Path) -> None:
    """The only begun job overrode an option that the missing ones leave alone."""
    write_run(tmp_path, "stratified", 0, metrics={"val/rmse": 0.1}, overrides=["sampler.tau=4"])
    jobs = {
        load_runs(tmp_path)[0].folder.name: ["sampler=stratified", "seed=0", "sampler.tau=4"],
        "a": ["sampler=stratified", "seed=1", "sampler.tau=4"],
        "b": ["sampler=stratified", "seed=0"],
    }
    write_plan(tmp_path, jobs)
    comparison = compare_runs(load_study(tmp_path))
    assert {row.label: len(row.runs) for row in comparison.rows} == {"stratified tau=4": 2, "stratified": 1}


def test_a_damaged_plan_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": [0.1]})
    (tmp_path / "study.json").write_text('{"jobs": [{"folder": "a"}]}')
    with pytest.raises(UserError, match=r"study.json: cannot be read as the plan of a study"):
        load_study(tmp_path)


def write_asking(root: Path, sampler: str, **asked: str) -> None:
    write_run(root, sampler, 0, metrics={"val/rmse": 0.1, "val/loss": 0.2}, manifest=asked)


def test_primary_and_baseline_are_those_that_were_named_before_the_run(tmp_path: Path) -> None:
    for sampler in ("shuffled", "stratified"):
        write_asking(tmp_path, sampler, primary="val/loss", baseline="stratified")
    comparison = compare_runs(load_runs(tmp_path))
    assert (comparison.primary, comparison.baseline) == ("val/loss", "stratified")
    assert compare_runs(load_runs(tmp_path), baseline="shuffled").baseline == "shuffled"


def test_runs_that_named_nothing_are_asked_for_rmse_against_shuffled(tmp_path: Path) -> None:
    write_asking(tmp_path, "shuffled")
    write_asking(tmp_path, "stratified", primary="val/rmse", baseline="shuffled")
    comparison = compare_runs(load_runs(tmp_path))
    assert (comparison.primary, comparison.baseline) == ("val/rmse", "shuffled")


@pytest.mark.parametrize(("key", "value"), [("primary", "val/loss"), ("baseline", "stratified")])
def test_runs_that_were_asked_differently_are_refused(tmp_path: Path, key: str, value: str) -> None:
    write_asking(tmp_path, "shuffled")
    write_asking(tmp_path, "stratified", **{key: value})
    with pytest.raises(ComparabilityError, match=rf"study.{key}.*\n  .* in 0-anything\n  {value} in 1-anything"):
        compare_runs(load_runs(tmp_path))


def test_a_baseline_given_now_settles_which_one(tmp_path: Path) -> None:
    write_asking(tmp_path, "shuffled")
    write_asking(tmp_path, "stratified", baseline="stratified")
    assert compare_runs(load_runs(tmp_path), baseline="stratified").baseline == "stratified"


def test_a_success_rate_may_be_primary_and_is_better_higher(tmp_path: Path) -> None:
    name = "closed_loop/seen/success_rate"
    for sampler, share in (("shuffled", 8), ("stratified", 6)):
        for seed in range(2):
            drives = {"seen": [index < share for index in range(10)]}
            write_run(tmp_path, sampler, seed, metrics={"val/rmse": 0.1}, drives=drives, manifest={"primary": name})
    comparison = compare_runs(load_runs(tmp_path))
    assert [row.label for row in comparison.rows] == ["shuffled", "stratified"]
    assert rank_sentences(comparison) == [], "it is not ranked against itself"
    metric = comparison.rows[1].metrics[name]
    assert metric.improvement == 0
    assert metric.difference is not None
    assert metric.difference.adjusted_p_value is not None
    secondary = comparison.rows[1].metrics["val/rmse"].difference
    assert secondary is not None
    assert secondary.adjusted_p_value is None
