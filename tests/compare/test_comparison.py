"""A comparison ranks only what may be ranked, loses no run, and writes numbers that others can read."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from written_runs import SHARED, SPEC, write_failed, write_json, write_run, write_study

from mobile_vla.compare.data.comparability import ComparabilityError
from mobile_vla.compare.data.comparison import Comparison, compare_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.report import compare_folder
from mobile_vla.errors import UserError
from mobile_vla.spec import known_signal

STUDY = {"shuffled": [0.115, 0.117, 0.119], "stratified": [0.110, 0.113, 0.112], "sequential": [0.2, 0.3, 0.25]}


def compare(root: Path, **options: str) -> Comparison:
    return compare_runs(load_runs(root), **options)


def written(root: Path) -> dict[str, Any]:
    """Compare and read the JSON as a strict parser does."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    compare_folder(root, console=Console(file=io.StringIO(), width=80))
    return json.loads((root / "comparison.json").read_text(), parse_constant=refuse)


def test_rows_stand_by_the_primary_metric(tmp_path: Path) -> None:
    write_study(tmp_path, STUDY)
    write_failed(tmp_path, "hard_negative", 0, error="no")
    assert [row.label for row in compare(tmp_path).rows] == ["stratified", "shuffled", "sequential", "hard_negative"]


def test_json_holds_each_metric_by_seed_with_its_paired_difference(tmp_path: Path) -> None:
    write_study(tmp_path, STUDY, **{"baseline/mean/rmse": 0.4})
    content = written(tmp_path)
    stratified, shuffled, _ = content["rows"]
    rmse = stratified["val/rmse"]
    assert (content["baseline"], content["primary"]) == ("shuffled", "val/rmse")
    assert (stratified["sampler"], stratified["n"], stratified["failed"]) == ("stratified", 3, 0)
    assert rmse["values"] == {"0": 0.110, "1": 0.113, "2": 0.112}
    assert rmse["mean"] == pytest.approx(0.335 / 3)
    assert rmse["paired_difference"] == pytest.approx(-0.016 / 3)
    assert rmse["paired_ci95"][0] < rmse["paired_difference"] < rmse["paired_ci95"][1]
    assert rmse["paired_n"] == 3
    assert shuffled["val/rmse"]["paired_difference"] is None
    assert {key: content[key] for key in SHARED} == SHARED
    assert content["reference"] == {"baseline/mean/rmse": 0.4}
    assert not {"seed", "steps", "baseline/mean/rmse"} & stratified.keys()


def test_missing_numbers_are_null_everywhere_and_never_zero(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1, "unseen/rmse": 0.2})
    write_run(tmp_path, "stratified", 0, metrics={"val/rmse": float("nan"), "sampler/coverage": 1.0})
    shuffled, stratified = written(tmp_path)["rows"]
    assert shuffled["val/rmse"]["std"] is None
    assert stratified["val/rmse"] == {
        "mean": None,
        "std": None,
        "iqm": None,
        "values": {},
        "improvement": None,
        "paired_difference": None,
        "paired_ci95": None,
        "paired_n": 0,
        "paired_t_p": None,
        "paired_sign_flip_p": None,
        "paired_t_p_holm": None,
        "episode_ci95": None,
        "verdict": "not told apart",
    }
    assert stratified["unseen/rmse"]["mean"] is None
    assert shuffled["sampler/coverage"]["mean"] is None


def test_failed_and_unfinished_runs_are_listed_and_out_of_every_number(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": [0.1, 0.2]})
    write_failed(tmp_path, "shuffled", 2, error="disk full\nat line 3")
    write_run(tmp_path, "shuffled", 3, metrics={"val/rmse": 9.0}, status="stopped", commit="other")
    killed = write_run(tmp_path, "stratified", 0)
    (killed / "summary.json").unlink()
    content = written(tmp_path)
    shuffled, stratified = content["rows"]
    assert (shuffled["n"], shuffled["failed"], shuffled["unfinished"]) == (2, 1, 1)
    assert shuffled["val/rmse"]["mean"] == pytest.approx(0.15)
    assert (stratified["n"], stratified["failed"]) == (0, 1)
    first, second = content["failed_runs"]
    assert (first["sampler"], first["seed"], first["error"]) == ("shuffled", 2, "disk full")
    assert (second["folder"], second["sampler"], second["seed"]) == (killed.name, "stratified", 0)
    assert [run["status"] for run in content["unfinished_runs"]] == ["stopped"]
    assert content["unfinished_runs"][0]["error"].startswith("stopped at step ")


def test_all_failed_is_a_comparison_of_nothing(tmp_path: Path) -> None:
    write_failed(tmp_path, "shuffled", 0, error="no")
    content = written(tmp_path)
    assert content["rows"][0]["val/rmse"]["mean"] is None
    assert content["commit"] is None


@pytest.mark.parametrize("key", [*SHARED, "baseline/time_lookup/rmse"])
def test_refusal_names_the_key_its_values_and_the_runs(tmp_path: Path, key: str) -> None:
    reference = {"baseline/time_lookup/rmse": 0.25}
    write_run(tmp_path, "shuffled", 0, metrics=reference)
    other = write_run(tmp_path, "stratified", 0, metrics={**reference, key: 777})
    with pytest.raises(ComparabilityError) as refusal:
        compare_folder(tmp_path, console=Console(file=io.StringIO()))
    message = str(refusal.value)
    assert key in message
    assert f"777 in {other.name}" in message
    assert str({**SHARED, **reference}[key]) in message
    assert not set(SHARED) - {key} & set(message.split())
    assert not (tmp_path / "comparison.json").exists()


def test_a_refusal_does_not_hide_what_failed(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0)
    write_run(tmp_path, "shuffled", 1, batch_size=777)
    failed = write_failed(tmp_path, "stratified", 0, error="disk full")
    write_run(tmp_path, "stratified", 1, status="running", steps=25)

    with pytest.raises(ComparabilityError) as refusal:
        compare_folder(tmp_path, console=Console(file=io.StringIO()))

    assert f"{failed.name} is failed: disk full" in str(refusal.value)
    assert "is running: no end recorded, and no process has it: killed; last recorded step 25" in str(refusal.value)


def test_a_finished_run_that_lacks_a_key_is_refused_and_a_failed_one_is_not(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": [0.1]})
    write_failed(tmp_path, "stratified", 0, error="before the data was read")
    assert compare(tmp_path).rows[0].num_done == 1
    write_run(tmp_path, "stratified", 1, data_hash=None)
    with pytest.raises(ComparabilityError, match=r"\(not recorded\)"):
        compare(tmp_path)


def test_rounding_of_a_reference_predictor_does_not_refuse(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, metrics={"baseline/mean/rmse": 0.4})
    write_run(tmp_path, "shuffled", 1, metrics={"baseline/mean/rmse": 0.4 * (1 + 1e-8)})
    compare(tmp_path)


def test_one_seed_twice_is_an_error_that_names_both_runs(tmp_path: Path) -> None:
    one, two = (write_run(tmp_path, "shuffled", 0) for _ in range(2))
    with pytest.raises(UserError, match=rf"seed 0 twice.*{one.name}.*{two.name}"):
        compare(tmp_path)


def test_a_failed_run_and_its_repetition_are_not_the_same_seed_twice(tmp_path: Path) -> None:
    write_failed(tmp_path, "shuffled", 0, error="no")
    write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1})
    (row,) = compare(tmp_path).rows
    assert (row.num_done, row.count("failed")) == (1, 1)


def test_absent_baseline_leaves_every_difference_empty(tmp_path: Path) -> None:
    write_study(tmp_path, STUDY)
    comparison = compare(tmp_path, baseline="other")
    assert comparison.baseline_row is None
    assert all(row.metrics["val/rmse"].difference.mean is None for row in comparison.rows)


def test_csv_has_one_line_a_run_and_empty_cells_for_what_is_missing(tmp_path: Path) -> None:
    write_study(tmp_path, STUDY)
    write_failed(tmp_path, "stratified", 3, error='said "no", twice')
    content = written(tmp_path)
    with (tmp_path / "comparison.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 10
    by_label = [float(line["val/rmse"]) for line in lines if line["label"] == "stratified" and line["status"] == "done"]
    assert sum(by_label) / len(by_label) == pytest.approx(content["rows"][0]["val/rmse"]["mean"])
    (failed,) = (line for line in lines if line["status"] == "failed")
    assert (failed["seed"], failed["error"], failed["val/rmse"]) == ("3", 'said "no", twice', "")
    assert all((tmp_path / line["folder"] / "manifest.json").exists() for line in lines)


def test_metrics_are_what_was_measured_and_not_what_was_run(tmp_path: Path) -> None:
    measured = {
        "val/rmse": 0.1,
        "val/rmse/linear_x": 0.1,
        "unseen/rmse": 0.2,
        "probe/rmse": 0.1,
        "best/val/rmse": 0.1,
        "train/loss": 0.3,
        "sampler/coverage": 1.0,
        "closed_loop/success": 0.5,
        "samples_seen": 100,
        "windows_scored": 50,
        "data_wait_s": 1.0,
    }
    bookkeeping = {
        "step": 500,
        "skipped_episodes": 0,
        "parameters/total": 9,
        "parameters/trainable": 8,
        "baseline/mean/rmse": 0.4,
        "of_another_version": 3,
    }
    write_run(tmp_path, "shuffled", 0, metrics={**measured, **bookkeeping})
    (row,) = compare(tmp_path).rows
    assert row.metrics.keys() == {*measured, "wall_s"}


@pytest.mark.parametrize("name", ["comparison.json", "comparison.csv"])
def test_a_reader_sees_the_old_file_or_the_new_one_whole(tmp_path: Path, name: str) -> None:
    write_study(tmp_path, STUDY)
    written(tmp_path)
    before = (tmp_path / name).read_text()
    with (tmp_path / name).open() as reader:
        write_failed(tmp_path, "stratified", 3, error="no")
        written(tmp_path)
        assert reader.read() == before
    assert (tmp_path / name).read_text() != before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "comparison.csv",
        "comparison.json",
        "report.html",
    ]


def test_comparing_again_gives_the_same_files(tmp_path: Path) -> None:
    write_study(tmp_path, STUDY)
    written(tmp_path)
    before = [(tmp_path / name).read_bytes() for name in ("comparison.json", "comparison.csv")]
    written(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in ("comparison.json", "comparison.csv")] == before


@pytest.mark.parametrize(
    ("names", "unit"),
    [(("linear_x", "linear_y"), "m/s"), (("angular_z",), "rad/s"), (("linear_x", "angular_z"), ""), ((), "")],
)
def test_unit_is_named_if_all_action_dimensions_share_it(tmp_path: Path, names: tuple[str, ...], unit: str) -> None:
    spec = replace(SPEC, actions=tuple(map(known_signal, names))) if names else None
    write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 1.0}, spec=spec)
    comparison = compare(tmp_path)
    assert comparison.unit("val/rmse") == comparison.unit("probe/rmse") == unit
    assert comparison.unit("val/loss") == ""


def test_summary_that_is_not_strict_json_still_gives_strict_json(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1})
    summary = json.loads((folder / "summary.json").read_text())
    write_json(folder / "summary.json", {**summary, "val/loss": float("inf"), "baseline/mean/rmse": float("nan")})
    content = written(tmp_path)
    assert "val/loss" not in content["rows"][0]
    assert content["reference"] == {}


def test_runs_of_one_score_file_with_two_contents_are_not_ranked(tmp_path: Path) -> None:
    for seed, content in enumerate(["aaa", "aaa", "bbb"]):
        write_run(tmp_path, "rho", seed, metrics={"val/rmse": 0.2}, manifest={"files": {"sampler.file=s.csv": content}})
    write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.3}, manifest={"files": {}})
    with pytest.raises(ComparabilityError, match=r"sampler.file=s.csv .*\n    aaa in 0-any.*\n    bbb in 2-anything"):
        compare(tmp_path)
