"""A sampler is held against its control as well: in one family of tests, and with a word on every pair that is not."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from rich.console import Console
from written_runs import write_failed, write_run

from mobile_vla.compare.data.comparability import ComparabilityError
from mobile_vla.compare.data.comparison import Comparison, compare_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.report import compare_folder
from mobile_vla.compare.statistics.estimates import paired_difference
from mobile_vla.compare.statistics.significance import holm, t_p_values
from mobile_vla.compare.verdict.controls import control_sentences
from mobile_vla.compare.verdict.verdict import verdict

SHUFFLED = [0.20, 0.22, 0.21, 0.19, 0.23]
NOISE = [0.001, -0.001, 0.0, 0.002, -0.002]
SHAKY = [0.23, 0.19, 0.22, 0.20, 0.21]
BETTER = [value - 0.02 + noise for value, noise in zip(SHUFFLED, NOISE, strict=True)]
CONTROLS = {"prioritized": "permuted_scores"}


def write(root: Path, rmse: Mapping[str, Iterable[float]], controls: Mapping[str, str] = CONTROLS) -> None:
    for sampler, values in rmse.items():
        for seed, value in enumerate(values):
            write_run(root, sampler, seed, metrics={"val/rmse": value}, manifest={"controls": dict(controls)})


def compare(root: Path) -> Comparison:
    return compare_runs(load_runs(root))


def sentences(root: Path) -> str:
    return "\n".join(control_sentences(compare(root)))


def adjusted(comparison: Comparison, label: str) -> float:
    row = next(row for row in comparison.rows if row.label == label)
    difference = row.metrics["val/rmse"].difference
    assert difference is not None
    assert difference.adjusted_p_value is not None
    return difference.adjusted_p_value


def test_a_pair_is_paired_by_seed_and_adjusted_with_those_against_the_baseline(tmp_path: Path) -> None:
    values = {"shuffled": SHUFFLED, "prioritized": BETTER, "permuted_scores": SHAKY}
    write(tmp_path, values)

    comparison = compare(tmp_path)

    (pair,) = comparison.controls
    by_seed = {label: dict(enumerate(numbers)) for label, numbers in values.items()}
    expected = paired_difference(by_seed["prioritized"], by_seed["permuted_scores"])
    assert (pair.difference.mean, pair.difference.interval) == (expected.mean, expected.interval)
    pairs = [("prioritized", "shuffled"), ("permuted_scores", "shuffled"), ("prioritized", "permuted_scores")]
    alone = [t_p_values([a - b for a, b in zip(values[one], values[other], strict=True)]) for one, other in pairs]
    family = [adjusted(comparison, "prioritized"), adjusted(comparison, "permuted_scores")]
    assert [*family, pair.difference.adjusted_p_value] == pytest.approx(list(holm(alone)))


@pytest.mark.parametrize("controls", [{"stratified": "shuffled"}, {"shuffled": "stratified"}])
def test_a_pair_with_the_baseline_is_counted_once(tmp_path: Path, controls: Mapping[str, str]) -> None:
    values = {"shuffled": SHUFFLED, "stratified": BETTER, "rho": SHAKY}
    write(tmp_path / "with", values, controls)
    write(tmp_path / "without", values, {})
    one, other = compare(tmp_path / "with"), compare(tmp_path / "without")
    assert adjusted(one, "stratified") == adjusted(other, "stratified") == one.controls[0].difference.adjusted_p_value
    assert one.num_tests == other.num_tests == 2


@pytest.mark.parametrize(
    ("method", "control", "said"),
    [
        (BETTER, SHUFFLED, "prioritized is surely better than permuted_scores by 0.02 (9.5 %), p < 0.001"),
        (SHUFFLED, BETTER, "prioritized is surely worse than permuted_scores by 0.02 (11 %), p < 0.001"),
        (SHUFFLED, SHAKY, "prioritized cannot be told from permuted_scores."),
        (BETTER, BETTER, "prioritized is equal to permuted_scores in every seed"),
        (BETTER[:3], SHUFFLED, "prioritized is indicatively better than permuted_scores by 0.02 (9.5 %), p 0.002"),
    ],
)
def test_the_verdict_says_how_a_sampler_stands_to_its_control(
    method: list[float], control: list[float], said: str, tmp_path: Path
) -> None:
    write(tmp_path, {"shuffled": [value + 0.1 for value in SHAKY], "prioritized": method, "permuted_scores": control})
    text = sentences(tmp_path)
    assert text.startswith(f"Against its control in val/rmse: {said}")
    assert ("adjusted by Holm over 3 comparisons (with shuffled and with controls)" in text) == ("p " in said)


def test_a_side_that_did_not_finish_is_said_to_be_missing(tmp_path: Path) -> None:
    write(tmp_path, {"shuffled": SHUFFLED, "prioritized": BETTER})
    write_failed(tmp_path, "permuted_scores", 0, error="disk full")
    text = sentences(tmp_path)
    assert text == (
        "Missing against its control: prioritized against permuted_scores (no finished run of permuted_scores)."
    )


def test_a_label_that_no_run_has_is_named_with_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, {"shuffled": SHUFFLED, "prioritized": BETTER})
    text = sentences(tmp_path)
    assert "(no run is called 'permuted_scores')" in text
    assert text.endswith("study.controls takes the labels of the comparison, here: prioritized; shuffled.")


def test_one_common_seed_tells_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"shuffled": SHUFFLED, "prioritized": BETTER, "permuted_scores": SHAKY[:1]})
    assert "(fewer than two seeds in common)" in sentences(tmp_path)


def test_without_controls_nothing_is_said(tmp_path: Path) -> None:
    write(tmp_path, {"shuffled": SHUFFLED, "prioritized": BETTER}, {})
    assert sentences(tmp_path) == ""


def test_a_control_that_no_job_carries_costs_nothing(tmp_path: Path) -> None:
    values = {"shuffled": SHUFFLED, "prioritized": BETTER}
    write(tmp_path / "without", values, {})
    write(tmp_path / "with", values, {"prioritized": "permuted_scores", "curriculum": "curriculum_random"})
    one, other = compare(tmp_path / "with"), compare(tmp_path / "without")
    assert adjusted(one, "prioritized") == adjusted(other, "prioritized")
    assert one.num_tests == other.num_tests == 1


def test_labels_with_options_are_found(tmp_path: Path) -> None:
    controls = {"lap threshold=0.1, model.head.loss=huber": "shuffled, model.head.loss=huber"}
    huber = ["model.head.loss=huber"]
    for sampler, values, overrides in (
        ("shuffled", SHUFFLED, []),
        ("shuffled", SHAKY, huber),
        ("lap", BETTER, ["sampler.threshold=0.1", *huber]),
    ):
        for seed, value in enumerate(values):
            made = {"metrics": {"val/rmse": value}, "overrides": overrides, "manifest": {"controls": controls}}
            write_run(tmp_path, sampler, seed, **made)
    assert "Missing" not in sentences(tmp_path)
    assert compare(tmp_path).controls[0].difference.num_pairs == 5


def test_runs_that_named_other_controls_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"shuffled": SHUFFLED[:1]}, {})
    write(tmp_path, {"prioritized": BETTER[:1]})
    with pytest.raises(ComparabilityError, match=r"study.controls.*\n  \{\} in 0-anything\n  \{'prior.* in 1-anything"):
        compare(tmp_path)


def test_pairs_stand_in_the_terminal_the_page_and_the_files(tmp_path: Path) -> None:
    write(tmp_path, {"shuffled": SHUFFLED, "prioritized": BETTER, "permuted_scores": SHAKY})
    console = Console(width=120, record=True, file=io.StringIO())

    comparison = compare_folder(tmp_path, console=console)

    (pair,) = comparison.controls
    assert "prioritized −" in console.export_text()
    (line,) = json.loads((tmp_path / "comparison.json").read_text())["controls"]
    assert (line["sampler"], line["control"]) == ("prioritized", "permuted_scores")
    assert line["paired_difference"] == pair.difference.mean
    assert line["paired_t_p_holm"] == pair.difference.adjusted_p_value
    with (tmp_path / "comparison.csv").open(newline="") as file:
        named = {line["label"]: line["control"] for line in csv.DictReader(file)}
    assert named == {"prioritized": "permuted_scores", "permuted_scores": "", "shuffled": ""}
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Against the controls</h2>" in page
    assert 'data-table="controls"' in page


def test_a_comparison_that_has_no_value_yet_counts_as_one_that_has(tmp_path: Path) -> None:
    """Else the first samplers of a study that finish would be held to a lower bar than the last."""
    write(tmp_path, {"shuffled": SHUFFLED, "stratified": BETTER}, {"stratified": "lap"})
    for sampler in ("rho", "lap"):
        write_failed(tmp_path, sampler, 0, error="not yet")
    comparison = compare(tmp_path)
    alone = t_p_values([a - b for a, b in zip(BETTER, SHUFFLED, strict=True)])
    assert comparison.num_tests == 4  # three with shuffled, one with the control
    assert adjusted(comparison, "stratified") == pytest.approx(min(4 * alone, 1))


def test_where_another_choice_is_swept_each_treatment_is_held_against_the_baseline_under_its_own(
    tmp_path: Path,
) -> None:
    for sampler, gain in (("shuffled", 0.0), ("hard_negative", 0.02)):
        for state, shift in (("none", 0.0), ("all", 0.05)):
            for seed, (value, noise) in enumerate(zip(SHUFFLED, NOISE, strict=True)):
                rmse = value + shift - gain * (state == "none") + noise * (sampler != "shuffled")
                write_run(tmp_path, sampler, seed, metrics={"val/rmse": rmse}, overrides=[f"model.state={state}"])

    comparison = compare(tmp_path)

    assert {(pair.label, pair.control) for pair in comparison.controls} == {
        (f"hard_negative, model.state={state}", f"shuffled, model.state={state}") for state in ("none", "all")
    }
    assert comparison.num_tests == 2
    text = " ".join(verdict(comparison))
    assert "'shuffled' was run under several other choices" in text
    assert "hard_negative, model.state=none is surely better than shuffled, model.state=none by 0.02" in text
    assert "hard_negative, model.state=all cannot be told from shuffled, model.state=all" in text
