"""A run on actions of several units is judged, kept and resumed by the error that has no unit."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import Ran, run_in, run_py, strict_json

from mobile_vla.compare.data.episode_errors import load_episode_errors
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.study.summary import objective_of

MIXED = "dataset.actions=[linear_x,angular_z]"
UNKNOWN = "dataset.signals={linear_x: {unit: null, kind: position, rest: null}, angular_z: {unit: null}}"


def manifest_of(ran: Ran) -> dict[str, Any]:
    return strict_json((ran.folder / "manifest.json").read_text())


@pytest.fixture(scope="module")
def mixed(tiny: Sequence[str], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The run of m/s and rad/s."""
    ran = run_in(tmp_path_factory.mktemp("mixed") / "run", *tiny, MIXED, "trainer.steps=8")
    assert ran.exit_code == 0, ran.message
    return ran


def test_the_metric_that_decides_is_recorded_as_the_data_give_it(mixed: Ran, whole: Ran) -> None:
    assert (manifest_of(mixed)["primary"], mixed.summary["primary"]) == ("val/nrmse", "val/nrmse")
    assert (manifest_of(whole)["primary"], whole.summary["primary"]) == ("val/rmse", "val/rmse")


def test_the_best_checkpoint_is_that_of_the_lowest_error_that_decides(mixed: Ran) -> None:
    measured = {row["step"]: row["val/nrmse"] for row in mixed.rows if "val/nrmse" in row}
    best = json.loads((Path(mixed.summary["checkpoint/best"]) / "training.json").read_text())
    assert mixed.summary["best/val/nrmse"] == best["best_error"] == min(measured.values()) == measured[best["step"]]
    assert "best/val/rmse" not in mixed.summary


def test_a_sweeper_minimises_the_error_that_decides(mixed: Ran, whole: Ran) -> None:
    assert objective_of(mixed.summary) == mixed.summary["val/nrmse"]
    assert objective_of({**mixed.summary, "inner/nrmse": 0.5}) == 0.5
    assert objective_of(whole.summary) == whole.summary["val/rmse"]
    assert math.isnan(objective_of({}))


def test_the_windows_of_a_run_add_up_to_its_error(mixed: Ran, whole: Ran) -> None:
    for ran, error, other in ((mixed, "val/nrmse", "val/rmse"), (whole, "val/rmse", "val/nrmse")):
        (record,) = load_runs(ran.folder)
        found = load_episode_errors(record, error=error)
        assert found is not None
        assert found.rmse == pytest.approx(ran.summary[error], rel=1e-4)
        assert load_episode_errors(record, error=other) is None


def test_a_run_of_one_unit_has_one_new_number_a_split_and_no_parts_of_it(whole: Ran) -> None:
    assert {key for key in whole.rows[-1] if "nrmse" in key} == {"val/nrmse", "probe/nrmse"}


def test_the_end_of_a_run_names_every_predictor_that_is_not_beaten(
    tiny: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_in(tmp_path / "run", *tiny, MIXED)
    assert ran.exit_code == 0, ran.message
    printed = " ".join(capsys.readouterr().out.split())
    titles = {
        "mean": "mean action",
        "hold_last": "hold-last action",
        "time_lookup": "time-step lookup",
        "scenario_time_lookup": "(scenario, time step) lookup",
    }
    error = ran.summary["val/nrmse"]
    values = {title: ran.summary[f"baseline/{name}/nrmse"] for name, title in titles.items()}
    named = {title for title, value in values.items() if f"the {title} ({value:.4f})" in printed}
    assert named == {title for title, value in values.items() if value <= error} != set()
    assert f"In val/nrmse the policy ({error:.4f}) is no better than" in printed


def test_the_primary_metric_that_is_asked_for_is_taken(tiny: Sequence[str], tmp_path: Path) -> None:
    ran = run_in(tmp_path / "run", *tiny, MIXED, "study.primary=val/rmse")
    assert ran.summary["primary"] == "val/rmse"
    assert ran.summary["best/val/rmse"] > 0
    assert not [key for key in ran.summary if key.startswith("val/nrmse/")]


def test_unknown_units_are_mixed_ones_and_the_spec_of_the_run_says_so(tiny: Sequence[str], tmp_path: Path) -> None:
    ran = run_in(tmp_path / "run", *tiny, MIXED, UNKNOWN)
    assert ran.exit_code == 0, ran.message
    assert ran.summary["primary"] == "val/nrmse"
    spec = strict_json((ran.folder / "spec.json").read_text())
    assert [signal["unit"] for signal in spec["actions"]] == [None, None]
    assert "val/nrmse/group_position" in ran.summary


@pytest.mark.slow
def test_a_sweep_of_mixed_units_goes_on_and_ranks_by_what_it_planned(tiny: Sequence[str], tmp_path: Path) -> None:
    sweep = ("-m", f"hydra.sweep.dir={tmp_path / 'sweep'}", *tiny, MIXED, "sampler=shuffled,sequential")
    for seeds in ("seed=0", "seed=0,1"):
        exit_code, message = run_py(*sweep, seeds)
        assert exit_code == 0, message
    assert strict_json((tmp_path / "sweep" / "study.json").read_text())["primary"] == "auto"
    compared = strict_json((tmp_path / "sweep" / "comparison.json").read_text())
    assert compared["primary"] == "val/nrmse"
    assert [row["n"] for row in compared["rows"]] == [2, 2]
