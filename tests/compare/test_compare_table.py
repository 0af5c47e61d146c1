"""The terminal table shows whole numbers at any usual width and sentences that claim no more than the data."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tiny_runs import slow_but
from written_runs import write_failed, write_run, write_study

from mobile_vla.compare.report import compare_folder
from mobile_vla.text import NumberFormat, duration, listed

FIVE = ("sequential", "shuffled", "random_temporal", "stratified", "hard_negative")


def shown(root: Path, *, width: int = 80, baseline: str = "shuffled") -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    compare_folder(root, baseline=baseline, console=console)
    return console.export_text()


def words(text: str) -> str:
    """Undo the wrapping of sentences."""
    return " ".join(text.split())


@pytest.mark.parametrize("scale", slow_but([1e-3, 0.03, 0.3, 3.0, 30.0, 3000.0], (1e-3, 0.3, 3000.0)))
@pytest.mark.parametrize("width", slow_but([80, 100, 120], (80, 120)))
def test_no_number_and_no_sampler_is_cut(tmp_path: Path, scale: float, width: int) -> None:
    for index, sampler in enumerate(FIVE):
        for seed in range(5):
            value = scale * (1 + 0.1 * index + 0.01 * seed * index)
            loss = {
                "val/loss": value**2,
                "train/loss": value**2 / 2,
                "probe/rmse": 0.9 * value,
                "unseen/rmse": 1.5 * value,
                "val/rmse/linear_x": value,
            }
            write_run(tmp_path, sampler, seed, metrics={"val/rmse": value, **loss}, wall_s=7000.0)
    text = shown(tmp_path, width=width)
    assert "…" not in text
    assert max(map(len, text.split("\n/")[0].splitlines()[3:])) <= width
    table, plot = text.split("Difference to")
    assert all(any(line.startswith(sampler) for line in plot.splitlines()) for sampler in FIVE if sampler != "shuffled")
    assert all(any(line.startswith(sampler) for line in table.splitlines()) for sampler in FIVE)
    assert table.count("±") == 15
    assert re.search(r"\bprobe/", table)
    assert table.count("[") == table.count("]") == 5
    assert table.count("1.9 h") == 5


def test_columns_of_missing_metrics_are_left_out(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": [0.1, 0.2]})
    text = shown(tmp_path, width=120)
    assert "val/loss" in text
    assert "unseen" not in text
    assert "train/loss" not in text


def test_baseline_is_marked_and_rows_are_sorted(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": [0.2] * 5, "stratified": [0.1] * 5, "sequential": [0.3] * 5})
    lines = shown(tmp_path, width=120).splitlines()
    rows = [line.split()[0] for line in lines if line.startswith(FIVE)]
    assert rows[:5] == ["stratified", "shuffled", "sequential", "stratified", "sequential"]
    assert sum("(baseline)" in line for line in lines) == 1


def test_failed_runs_are_rows_with_their_reason(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": [0.1, 0.2]})
    write_failed(tmp_path, "shuffled", 2, error="disk full\nsecret second line")
    write_failed(tmp_path, "stratified", 0, error="batch [of 4] is smaller than 8 strata")
    text = shown(tmp_path)
    assert "(1 failed)" in text
    assert any(line.startswith("stratified") and "failed" in line and "0." not in line for line in text.splitlines())
    assert "disk full" in text
    assert "secret" not in text
    assert "batch [of 4] is smaller than 8 strata" in words(text)


def test_labels_that_look_like_markup_are_shown_whole(tmp_path: Path) -> None:
    for names in ("[bold]", "[red]"):
        write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1}, overrides=[f"dataset.unseen={names}"])
    text = shown(tmp_path, width=120)
    assert "dataset.unseen=[bold]" in text
    assert "dataset.unseen=[red]" in text


def test_few_seeds_are_indicative_and_one_seed_says_nothing(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": [0.1], "stratified": [0.2]})
    text = words(shown(tmp_path))
    assert "1*" in text
    assert "fewer than 5 seeds: indicative" in text
    assert "Fewer than two seeds in common with shuffled, so nothing can be concluded about stratified" in text
    assert "±" not in text


def test_absent_baseline_is_said_with_what_could_be_one(tmp_path: Path) -> None:
    write_study(tmp_path, {"shuffled": [0.1, 0.2], "stratified": [0.2, 0.3]})
    text = words(shown(tmp_path, baseline="rho"))
    assert "'rho' is not among the finished runs" in text
    assert "shuffled; stratified" in text


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        (0.05, "No sampler beats the (scenario, time step) lookup: nothing shows that these policies use the images."),
        (0.15, "No better than the (scenario, time step) lookup, which sees no image: stratified."),
        (0.50, None),
    ],
)
def test_lookup_table_is_the_bar(tmp_path: Path, reference: float, sentence: str | None) -> None:
    summary = {"baseline/scenario_time_lookup/rmse": reference, "baseline/mean/rmse": 0.9}
    write_study(tmp_path, {"shuffled": [0.1, 0.1], "stratified": [0.2, 0.2]}, **summary)
    text = words(shown(tmp_path))
    assert "mean action 0.9000" in text
    assert f"(scenario, time step) lookup {reference:.4f}" in text
    assert "hold-last action —" in text
    assert sentence in text if sentence else "lookup:" not in text and "No better" not in text


def write_ends(root: Path, ends: dict[str, list[tuple[float, float]]]) -> None:
    """Write one finished run a pair: its final and its best val/rmse."""
    for sampler, pairs in ends.items():
        for seed, (final, best) in enumerate(pairs):
            write_run(root, sampler, seed, metrics={"val/rmse": final, "best/val/rmse": best})


def test_samplers_past_their_best_are_named_with_both_values(tmp_path: Path) -> None:
    ends = {
        "shuffled": [(0.290, 0.275), (0.294, 0.277)],
        "sequential": [(0.305, 0.300), (0.305, 0.300)],
        "stratified": [(0.310, 0.300), (0.310, 0.300)],
    }
    write_ends(tmp_path, ends)
    text = words(shown(tmp_path))
    named = "shuffled (0.2920, best 0.2760) and stratified (0.3100, best 0.3000)"
    assert f"More than 2 % past their best val/rmse at the last step: {named}: they overfit or diverge" in text
    assert "the ranking depends on the budget" in text


def test_a_final_value_near_the_best_is_not_past_it(tmp_path: Path) -> None:
    write_ends(tmp_path, {"shuffled": [(0.2, 0.2), (0.305, 0.3)], "stratified": [(0.2, 0.2), (0.1, 0.1)]})
    assert "past their best" not in words(shown(tmp_path))


def test_final_and_best_are_held_against_each_other_over_the_same_seeds(tmp_path: Path) -> None:
    write_ends(tmp_path, {"shuffled": [(float("nan"), 0.1), (0.3, 0.3)]})
    assert "past their best" not in words(shown(tmp_path))


@given(
    value=st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9), decimals=st.integers(4, 5)
)
def test_a_number_fits_its_column_and_is_zero_only_if_it_is(value: float, decimals: int) -> None:
    text = NumberFormat(decimals=decimals).text(value, sign="+")
    assert len(text) <= 9
    assert float(text) == pytest.approx(value, rel=0.06, abs=0.5 * 10**-decimals)
    assert (float(text) == 0) == (value == 0)


def test_missing_is_a_dash() -> None:
    assert NumberFormat.of([None, None]).text(None) == "—"
    assert duration(None) == "—"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (99.0, "99 s"), (720.0, "12 min"), (11520.0, "3.2 h")])
def test_duration_is_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_names_that_hold_a_comma_are_told_apart_by_semicolons() -> None:
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b, x=1", "c"]) == "a; b, x=1 and c"
    assert listed(["a, x=1"]) == "a, x=1"
