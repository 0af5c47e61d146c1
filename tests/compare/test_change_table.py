"""The founding report's table comes out of the logs as it was printed there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from written_runs import write_run

from mobile_vla.compare.change_table import changes, report_change_table
from mobile_vla.compare.comparability import ComparabilityError
from mobile_vla.compare.runs import load_runs
from mobile_vla.errors import UserError

REPORT = [
    {"step": 0, "val/loss": 0.0517, "val/rmse": 0.227},
    {"step": 10, "train/loss": 0.429, "train/rmse": 0.655},
    {"step": 50, "train/loss": 0.1, "train/rmse": 0.3, "val/loss": 9.0, "val/rmse": 9.0},
    {"step": 90, "train/loss": 0.0131, "train/rmse": 0.114, "val/loss": 0.0131, "val/rmse": 0.115},
]


def shown(root: Path, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    report_change_table(root, console)
    return console.export_text()


def test_report_comes_out_as_printed(tmp_path: Path) -> None:
    write_run(tmp_path, "sequential", 0, metrics={"baseline/scenario_time_lookup/rmse": 0.11}, log=REPORT)
    lines = [line.split() for line in shown(tmp_path).splitlines()]
    assert ["sequential", "train/loss", "10", "to", "90", "0.4290", "0.0131", "-96.9", "%"] in lines
    assert ["val/loss", "0", "to", "90", "0.0517", "0.0131", "-74.7", "%"] in lines
    assert ["train/rmse", "10", "to", "90", "0.6550", "0.1140", "-82.6", "%", "0.1100"] in lines
    assert ["val/rmse", "0", "to", "90", "0.2270", "0.1150", "-49.3", "%", "0.1100"] in lines


def test_values_are_means_over_seeds(tmp_path: Path) -> None:
    for seed, value in enumerate((0.2, 0.4)):
        log = [{"step": 0, "val/rmse": value}, {"step": 9, "val/rmse": value / 4}]
        write_run(tmp_path, "shuffled", seed, log=log)
    change = changes(load_runs(tmp_path))["val/rmse"]
    assert change.first == pytest.approx(0.3)
    assert change.last == pytest.approx(0.075)
    assert change.percent == pytest.approx(-75)


def test_unfinished_runs_stay_out(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, log=REPORT)
    write_run(tmp_path, "shuffled", 1, log=[{"step": 0, "val/rmse": 99.0}], status="stopped")
    write_run(tmp_path, "stratified", 0, status="failed", error="no")
    text = shown(tmp_path)
    assert "99" not in text
    assert any(line.startswith("stratified") and "no finished run" in line for line in text.splitlines())


def test_damaged_log_is_an_error_that_names_file_and_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "shuffled", 0, log=REPORT)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')
    with pytest.raises(UserError, match=r"metrics.jsonl: line 5 is not JSON"):
        shown(tmp_path)


def test_runs_that_cannot_stand_side_by_side_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, log=REPORT)
    write_run(tmp_path, "stratified", 0, log=REPORT, steps=501)
    with pytest.raises(ComparabilityError, match="steps"):
        shown(tmp_path)
