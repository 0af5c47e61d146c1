"""Actions of several units are judged by an error that has none, and a comparison says which unit each number has."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from written_page import write_page_study
from written_runs import SPEC, write_run

from mobile_vla.compare.data.comparability import ComparabilityError
from mobile_vla.compare.data.comparison import Comparison, compare_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.page.page import write_page
from mobile_vla.compare.page.slices import phase_map
from mobile_vla.compare.report import compare_folder
from mobile_vla.compare.terminal.first_vs_last import report_first_vs_last
from mobile_vla.compare.verdict.verdict import verdict
from mobile_vla.spec import Signal, Spec, known_signal

JOINT = Signal(name="elbow", unit="rad", kind="position")
MIXED = replace(SPEC, actions=(known_signal("linear_x"), JOINT, Signal(name="gripper", kind="binary")))
REFERENCES = {
    f"baseline/{name}/{error}": value * size
    for name, value in {"mean": 1.0, "hold_last": 0.3, "time_lookup": 0.9, "scenario_time_lookup": 0.8}.items()
    for error, size in (("nrmse", 1), ("rmse", 10))
}
"""A hold-last action that is 40 % better than policies of 0.5, and lookups that they beat."""


def write_mixed(root: Path, values: dict[str, list[float]], *, spec: Spec = MIXED, primary: str = "val/nrmse") -> None:
    """Write runs on data of ``spec``: val/nrmse by sampler and seed, and a val/rmse that says the reverse."""
    for sampler, by_seed in values.items():
        for seed, value in enumerate(by_seed):
            write_run(
                root,
                sampler,
                seed,
                metrics={
                    "val/nrmse": value,
                    "val/rmse": 10 - value,
                    "val/rmse/elbow": value,
                    "val/rmse/gripper": value,
                    "val/nrmse/phase_0": value,
                    "probe/nrmse": value,
                    "probe/rmse": 1.0,
                    **REFERENCES,
                },
                log=[{"step": step, "val/nrmse": value, "val/rmse": 10 - value} for step in (0, 1, 2)],
                manifest={"primary": primary},
                windows={f"episode_{index}": [4 * value**2] for index in range(12)},
                best_by="val/nrmse",
                spec=spec,
            )


STUDY = {"shuffled": [0.50, 0.51, 0.52], "stratified": [0.40, 0.41, 0.43]}


def compare(root: Path) -> Comparison:
    return compare_runs(load_runs(root))


def text_of(root: Path, *, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    compare_folder(root, console=console)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_runs_of_mixed_units_are_ranked_by_the_error_without_one(tmp_path: Path) -> None:
    write_mixed(tmp_path, STUDY)
    comparison = compare(tmp_path)
    assert comparison.primary == comparison.error == comparison.val_error == "val/nrmse"
    assert [row.label for row in comparison.rows] == ["stratified", "shuffled"]
    difference = comparison.rows[0].metrics["val/nrmse"].difference
    assert difference is not None
    assert difference.episode_interval is not None  # of the windows, whose squared errors are in the same units


def test_each_metric_has_its_unit(tmp_path: Path) -> None:
    write_mixed(tmp_path, STUDY)
    comparison = compare(tmp_path)
    names = ("val/nrmse", "probe/nrmse", "val/rmse", "val/rmse/linear_x", "val/rmse/elbow", "val/rmse/gripper")
    units = [comparison.unit(name) for name in names]
    assert units == ["train std", "train std", "", "m/s", "rad", ""]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_shows_the_error_that_decides_with_its_unit(tmp_path: Path, width: int) -> None:
    write_mixed(tmp_path, STUDY)
    text = text_of(tmp_path, width=width)
    assert "[train std]" in text
    assert "val/nrmse is the primary metric" in " ".join(text.split())
    assert "Reference predictors, val/nrmse [train std]" in text
    assert "val/rmse" not in text
    assert "9.5" not in text
    for number in ("0.5100", "0.4133", "0.3000"):
        assert number in text


def test_the_page_draws_and_names_the_error_that_decides(tmp_path: Path) -> None:
    write_page_study(tmp_path)
    for folder in tmp_path.glob("*-anything"):
        (folder / "spec.json").write_text(MIXED.text())
        summary = json.loads((folder / "summary.json").read_text())
        renamed = {key.replace("/rmse", "/nrmse"): value for key, value in summary.items()}
        (folder / "summary.json").write_text(json.dumps({**renamed, "best_by": "val/nrmse"}))
    comparison = compare(tmp_path)
    write_page(comparison, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "val/nrmse [train std] of what needs no training" in page
    assert "train std</b>" in page  # of a hardest window
    assert not phase_map(comparison).is_empty


def test_first_and_last_values_are_those_of_the_error_that_decides(tmp_path: Path) -> None:
    write_mixed(tmp_path, STUDY)
    console = Console(file=io.StringIO(), width=120)
    report_first_vs_last(tmp_path, console)
    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "val/nrmse" in text
    assert "val/rmse" not in text
    assert "0.8000" in text  # the lookup, in the same unit


def test_a_run_that_ended_before_it_knew_its_data_follows_the_others(tmp_path: Path) -> None:
    write_mixed(tmp_path, STUDY)
    write_run(tmp_path, "sequential", 0, manifest={"primary": "auto"}, status="failed", error="no disk", spec=None)
    assert compare(tmp_path).primary == "val/nrmse"


def test_auto_of_one_unit_is_the_rmse(tmp_path: Path) -> None:
    for status in ("failed", "stopped"):
        write_run(tmp_path, "shuffled", 0, manifest={"primary": "auto"}, status=status)
    assert compare(tmp_path).primary == "val/rmse"


def other_spec(**change: Any) -> Spec:
    return replace(SPEC, actions=(replace(SPEC.actions[0], **change), *SPEC.actions[1:]))


@pytest.mark.parametrize("change", [{"unit": "normalised"}, {"name": "throttle"}, {"kind": "position"}])
def test_runs_of_other_signals_are_not_ranked_together(tmp_path: Path, change: dict[str, Any]) -> None:
    write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1})
    write_run(tmp_path, "stratified", 0, metrics={"val/rmse": 0.1}, spec=other_spec(**change))
    with pytest.raises(ComparabilityError, match=rf"the actions .*differs:[\s\S]*{next(iter(change.values()))}"):
        compare(tmp_path)


def test_runs_with_and_without_state_are_ranked_together(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1})
    with_state = replace(SPEC, state=(JOINT,))
    write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1}, overrides=["model.state=all"], spec=with_state)
    assert len(compare(tmp_path).rows) == 2


def not_beaten(root: Path) -> str:
    return " ".join(text for text in verdict(compare(root)) if "beats" in text or "No better" in text)


def test_a_hold_last_that_no_policy_beats_is_named(tmp_path: Path) -> None:
    write_mixed(tmp_path, STUDY)
    assert not_beaten(tmp_path) == (
        "No sampler beats the hold-last action: to repeat the action before, without any image, is as good."
    )


def test_every_predictor_that_is_not_beaten_is_named(tmp_path: Path) -> None:
    write_mixed(tmp_path, {"shuffled": [0.85, 0.85], "stratified": [0.95, 0.95]})
    assert not_beaten(tmp_path) == (
        "No sampler beats the (scenario, time step) lookup: nothing shows that these policies use the images. "
        "No sampler beats the hold-last action: to repeat the action before, without any image, is as good. "
        "No better than the time-step lookup, which sees no image: stratified."
    )


def test_nothing_is_named_where_all_are_beaten(tmp_path: Path) -> None:
    write_mixed(tmp_path, {"shuffled": [0.1, 0.1], "stratified": [0.2, 0.2]})
    assert not_beaten(tmp_path) == ""


def test_predictors_are_named_too_where_drives_decide(tmp_path: Path) -> None:
    for sampler in ("shuffled", "stratified"):
        write_run(
            tmp_path,
            sampler,
            0,
            metrics={"val/rmse": 0.5, "baseline/hold_last/rmse": 0.3},
            drives={"seen": [True, False]},
            manifest={"primary": "closed_loop/seen/success_rate"},
        )
    assert not_beaten(tmp_path).startswith("No sampler beats the hold-last action in val/rmse:")
