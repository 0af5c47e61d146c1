"""The founding report's table comes out of the logs as it was printed there."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from written_runs import write_run

from mobile_vla import metrics
from mobile_vla.compare.data.comparability import ComparabilityError
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.terminal.first_vs_last import changes, report_first_vs_last
from mobile_vla.errors import UserError

REPORT = [
    {"step": 0, "val/loss": 8.0, "val/rmse": 8.0},
    {"step": 5, "train/loss": 7.0, "train/rmse": 7.0},
    {"step": 10, "train/loss": 0.429, "train/rmse": 0.655, "val/loss": 0.0517, "val/rmse": 0.227},
    {"step": 50, "train/loss": 0.1, "train/rmse": 0.3, "val/loss": 9.0, "val/rmse": 9.0},
    {"step": 90, "train/loss": 0.0131, "train/rmse": 0.114, "val/loss": 0.0131, "val/rmse": 0.115},
]


def shown(root: Path, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    report_first_vs_last(root, console)
    return console.export_text()


def test_report_comes_out_as_printed(tmp_path: Path) -> None:
    write_run(tmp_path, "sequential", 0, metrics={"baseline/scenario_time_lookup/rmse": 0.11}, log=REPORT)
    lines = [line.split() for line in shown(tmp_path).splitlines()]
    assert ["sequential", "val/rmse", "10", "to", "90", "0.2270", "0.1150", "-49.3", "%", "0.1100"] in lines
    assert ["val/loss", "10", "to", "90", "0.0517", "0.0131", "-74.7", "%"] in lines
    assert ["train/loss", "10", "to", "90", "0.4290", "0.0131", "-96.9", "%"] in lines
    assert ["train/rmse", "10", "to", "90", "0.6550", "0.1140", "-82.6", "%", "0.1100"] in lines


def test_values_are_means_over_seeds(tmp_path: Path) -> None:
    for seed, value in enumerate((0.2, 0.4)):
        log = [{"step": 1, "val/rmse": value}, {"step": 9, "val/rmse": value / 4}]
        write_run(tmp_path, "shuffled", seed, log=log)
    change = changes(load_runs(tmp_path))["val/rmse"]
    assert change.first == pytest.approx(0.3)
    assert change.last == pytest.approx(0.075)
    assert change.percent == pytest.approx(-75)


REPORTED = metrics.shown("changes")
ROWS = st.dictionaries(st.sampled_from(REPORTED), st.floats(0.1, 1), max_size=4)


@given(rows=st.lists(ROWS, max_size=8))
def test_all_metrics_are_read_at_the_same_two_steps_and_never_at_step_0(rows: list[dict[str, float]]) -> None:
    log = [{"step": 10 * index, **row} for index, row in enumerate(rows)]
    log.append({"step": 10 * len(rows) + 10, **dict.fromkeys(REPORTED, 0.5)})
    with TemporaryDirectory() as root:
        write_run(Path(root), "shuffled", 0, log=log)
        found = changes(load_runs(Path(root)))
    assert list(found) == list(REPORTED)
    complete = [row for row in log if row["step"] > 0 and set(REPORTED) <= row.keys()]
    assert {(change.first_step, change.last_step) for change in found.values()} == {
        (complete[0]["step"], complete[-1]["step"])
    }
    assert all(change.first == complete[0][name] for name, change in found.items())


def test_a_metric_that_no_run_logs_leaves_the_others_standing(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, log=[{"step": 3, "train/loss": 1.0, "val/loss": 2.0, "val/rmse": None}])
    assert set(changes(load_runs(tmp_path))) == {"train/loss", "val/loss"}


def test_a_run_without_an_evaluation_after_step_0_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, log=[{"step": 0, "val/rmse": 0.2}])
    assert "no evaluation after step 0" in shown(tmp_path)


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
    with pytest.raises(UserError, match=r"metrics.jsonl: line 6: is not JSON"):
        shown(tmp_path)


def test_runs_that_cannot_stand_side_by_side_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, log=REPORT)
    write_run(tmp_path, "stratified", 0, log=REPORT, steps=501)
    with pytest.raises(ComparabilityError, match="steps"):
        shown(tmp_path)
