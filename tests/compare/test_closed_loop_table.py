"""The terminal shows success beside the errors in whole numbers, and says where the two rank samplers differently."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from written_runs import write_run

from mobile_vla.compare.data.comparison import compare_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.page.intervals import paired_differences
from mobile_vla.compare.page.results import results
from mobile_vla.compare.page.slices import scenario_map
from mobile_vla.compare.report import compare_folder
from mobile_vla.compare.verdict.ranks import rank_sentences
from mobile_vla.text import POINTS, ShareFormat, p_value

FIVE = ("sequential", "shuffled", "random_temporal", "stratified", "hard_negative")
SUITES = ("seen", "unseen", "looks", "shifted")


def shown(root: Path, *, width: int = 80, styles: bool = False) -> str:
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    compare_folder(root, console=console)
    return console.export_text(styles=styles)


def words(text: str) -> str:
    return " ".join(text.split())


def parts(text: str) -> tuple[str, str]:
    """Return the table of the samplers and that of the closed loop."""
    first, second = text.split("alone: paired drives")[0].split("Closed loop")
    return first.split("Difference to")[0], second


def reaching(share: float, num: int = 20) -> list[bool]:
    return [index < round(share * num) for index in range(num)]


def write_samplers(root: Path, samplers: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Write one finished run a seed: its val/rmse and its success rate in ``seen``."""
    for sampler, seeds in samplers.items():
        for seed, (rmse, success) in enumerate(seeds):
            write_run(root, sampler, seed, metrics={"val/rmse": rmse}, drives={"seen": reaching(success)})


@pytest.mark.parametrize("scale", [0.03, 0.3, 3000.0])
@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_number_and_no_sampler_is_cut(tmp_path: Path, scale: float, width: int) -> None:
    for index, sampler in enumerate(FIVE):
        for seed in range(2):
            rmse = scale * (1 + 0.1 * index + 0.01 * seed)
            names = ("val/loss", "train/loss", "probe/rmse", "unseen/rmse", "val/rmse", "val/rmse/linear_x")
            successes = reaching(1.0 if index == 4 else 0.05 * index * (1 + seed))
            metrics = dict.fromkeys(names, rmse)
            write_run(tmp_path, sampler, seed, metrics=metrics, drives=dict.fromkeys(SUITES, successes))
    text = shown(tmp_path, width=width)
    first, second = parts(text)
    assert "…" not in text
    assert max(map(len, text.split("\n/")[0].splitlines()[3:])) <= width
    assert all(f"{sampler} " in part for sampler in FIVE for part in (first, second))
    assert words(first).count("success") == (4 if width == 140 else 2)
    assert first.count("100.0 %") == (4 if width == 140 else 2)
    assert second.count("100.0 %") == 4
    assert second.count("±") == 20
    assert second.count("[") == second.count("]") == 16
    rows = [line for line in second.splitlines() if line.startswith(FIVE)]
    assert len(rows) == 20


def test_success_stands_in_percent_with_its_spread(tmp_path: Path) -> None:
    write_samplers(tmp_path, {"shuffled": [(0.1, 0.9), (0.1, 1.0)]})
    text = words(shown(tmp_path, width=140))
    assert text.count("95.0 % ±7.1 %") == 2
    assert "20 drives a run and suite" in text


def test_each_suite_lists_the_best_first(tmp_path: Path) -> None:
    write_samplers(tmp_path, {"shuffled": [(0.1, 0.5)], "stratified": [(0.2, 0.9)], "sequential": [(0.3, 0.1)]})
    first, second = parts(shown(tmp_path))
    orders = [[line.split()[0] for line in part.splitlines() if line.startswith(FIVE)] for part in (first, second)]
    assert orders == [["shuffled", "stratified", "sequential"], ["stratified", "shuffled", "sequential"]]


def test_more_success_is_green_and_more_error_red(tmp_path: Path) -> None:
    higher = [(0.2 + 0.01 * seed, 0.5) for seed in range(5)]
    safer = [(rmse * 1.01 + 0.1, 0.95 if seed else 0.9) for seed, (rmse, _) in enumerate(higher)]
    write_samplers(tmp_path, {"shuffled": higher, "stratified": safer})
    text = shown(tmp_path, styles=True)
    assert re.search(r"\x1b\[31m *\+0\.1022", text)
    assert re.search(r"\x1b\[32m *\+44\.0", text)


def test_runs_without_a_closed_loop_show_none(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1})
    text = shown(tmp_path, width=140)
    assert "success" not in text
    assert "Closed loop" not in text


def test_a_sampler_that_did_not_drive_has_a_dash_and_no_row(tmp_path: Path) -> None:
    write_samplers(tmp_path, {"shuffled": [(0.1, 0.5)]})
    write_run(tmp_path, "stratified", 0, metrics={"val/rmse": 0.2})
    first, second = parts(shown(tmp_path))
    (line,) = (line for line in first.splitlines() if line.startswith("stratified"))
    assert "—" in line
    assert not any(line.startswith("stratified") for line in second.splitlines())


def test_other_states_are_named_and_not_compared(tmp_path: Path) -> None:
    write_samplers(tmp_path, {"shuffled": [(0.1, 0.5)], "stratified": [(0.2, 0.6)]})
    odd = write_run(
        tmp_path, "rho", 0, metrics={"val/rmse": 0.3}, drives={"seen": reaching(0.9)}, states={"seen": "x9"}
    )
    text = shown(tmp_path)
    (line,) = (line for line in parts(text)[1].splitlines() if line.startswith("rho"))
    assert "other states" in line
    assert "met other initial states" in words(text)
    assert f"x9 in {odd.name}" in words(text)
    assert "on the order" not in text
    assert "first of" not in text


def test_the_first_by_error_that_is_last_by_success_is_named_with_its_share(tmp_path: Path) -> None:
    steady = [0.001 * seed for seed in range(5)]
    write_samplers(
        tmp_path,
        {
            "sequential": [(0.20 + noise, 0.70 + 0.05 * (seed % 2)) for seed, noise in enumerate(steady)],
            "shuffled": [(0.30 + 2 * noise, 0.90 + 0.05 * (seed > 2)) for seed, noise in enumerate(steady)],
            "stratified": [(0.40 + 3 * noise, 0.95) for noise in steady],
        },
    )
    text = words(shown(tmp_path))
    assert (
        "By val/rmse sequential is first of 3; by success in seen it is last (72.0 %; stratified is first with 95.0 %)."
        in text
    )
    assert "each for one comparison alone): sequential against shuffled and stratified." in text
    assert "agree on the order" not in text


def test_a_contradiction_without_certainty_may_be_chance(tmp_path: Path) -> None:
    write_samplers(tmp_path, {"shuffled": [(0.1, 0.8), (0.3, 0.9)], "stratified": [(0.3, 0.9), (0.2, 0.9)]})
    text = words(shown(tmp_path))
    assert "By val/rmse shuffled is first of 2; by success in seen it is last (85.0 %; stratified" in text
    assert "That may be chance: no two samplers differ surely in both." in text


def test_equal_success_in_other_seeds_is_no_difference(tmp_path: Path) -> None:
    shares = (0.7, 0.8, 0.9)  # whose sum depends on the order, in the last digit
    first = [(0.1, share) for share in shares]
    write_samplers(tmp_path, {"shuffled": first, "stratified": [(0.2, share) for share in reversed(shares)]})
    assert rank_sentences(compare_runs(load_runs(tmp_path))) == []


def test_agreement_on_the_first_alone_is_said(tmp_path: Path) -> None:
    write_samplers(tmp_path, {"shuffled": [(0.1, 0.9)], "stratified": [(0.2, 0.7)], "rho": [(0.3, 0.8)]})
    text = words(shown(tmp_path))
    assert "val/rmse and success in seen agree that shuffled is first, and order the others differently." in text


FIGURES = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=4)


@settings(max_examples=40)
@given(figures=FIGURES)
def test_a_difference_of_ranks_is_said_exactly_where_there_is_one(figures: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as folder:
        samplers = {name: [(a / 10, b / 4)] for name, (a, b) in zip(FIVE, figures, strict=False)}
        write_samplers(Path(folder), samplers)
        sentence = " ".join(rank_sentences(compare_runs(load_runs(Path(folder)))))
    pairs = list(permutations(figures, 2))
    is_contradicted = any(a < c and b < d for (a, b), (c, d) in pairs)
    are_both_ordered = all(any(one[i] != other[i] for one, other in pairs) for i in (0, 1))
    assert ("differently" in sentence or "is first of" in sentence) == is_contradicted
    assert ("agree on the order" in sentence) == (not is_contradicted and are_both_ordered)
    assert (sentence == "") == (not are_both_ordered)


def test_shares_are_short_and_have_no_negative_zero() -> None:
    assert ShareFormat().text(0.9534) == "95.3 %"
    assert POINTS.text(-1e-9, sign="+") == "+0.0"
    assert ShareFormat().text(None) == "—"
    assert [p_value(p) for p in (None, 1.0, 0.0123, 0.0005, 0.0004)] == ["—", "1.000", "0.012", "0.001", "<0.001"]


LOOKS = "closed_loop/looks/success_rate"


def write_decided_by_driving(root: Path, *, primary: str = LOOKS, states: Mapping[str, str] | None = None) -> None:
    """Write a study that a figure of ``looks`` decides: stratified drives better, and predicts worse.

    ``states`` names, by sampler, the initial states that it met in ``looks``.
    """
    shares = {"shuffled": (0.25, 0.3, 0.25, 0.3, 0.25), "stratified": (0.5, 0.6, 0.5, 0.55, 0.5)}
    errors = {"shuffled": (0.2, 0.21, 0.2, 0.2, 0.21), "stratified": (0.3, 0.3, 0.31, 0.3, 0.31)}
    for sampler in shares:
        for seed, (rmse, share) in enumerate(zip(errors[sampler], shares[sampler], strict=True)):
            drives = {"seen": reaching(0.9), "unseen": reaching(0.8), "looks": reaching(share)}
            metrics = dict.fromkeys(("val/rmse", "val/rmse/linear_x", "val/rmse/scenario_a", "probe/rmse"), rmse)
            metrics[f"{LOOKS}/scenario_a"] = share
            write_run(
                *(root, sampler, seed),
                metrics=metrics | {"closed_loop/looks/final_error_m": 1 - share},
                drives=drives,
                states={"looks": states[sampler]} if states else None,
                manifest={"primary": primary},
            )


@pytest.mark.parametrize("width", [80, 100, 120])
def test_success_that_decides_stands_first_and_the_error_beside_it(tmp_path: Path, width: int) -> None:
    write_decided_by_driving(tmp_path)
    first, second = parts(shown(tmp_path, width=width))
    heading = next(line for line in first.splitlines() if "looks" in line)
    row = next(line for line in first.splitlines() if line.startswith("stratified"))
    cells = {
        "looks": "53.0 %",
        "difference to": "+26.0 p <0.001",
        "seen": "90.0 %",
        "unseen": "80.0 %",
        "val/rmse": "0.3040",
    }
    ends = {name: heading.index(f" {name}") + 1 + len(name) for name in cells}
    assert list(ends.values()) == sorted(ends.values())
    for name, value in cells.items():
        assert row[: ends[name]].endswith(value), name
    assert "[m/s]" in first
    assert " p " not in second, "whose p would stand beside that of the initial states"


@pytest.mark.parametrize("width", [80, 90, 100, 120])
@pytest.mark.parametrize("figure", ["success_rate", "success_rate/scenario_mean", "final_error_m"])
def test_whatever_figure_of_driving_decides_nothing_is_cut(tmp_path: Path, figure: str, width: int) -> None:
    write_decided_by_driving(tmp_path, primary=f"closed_loop/looks/{figure}")
    text = shown(tmp_path, width=width)
    first, _ = parts(text)
    assert "…" not in text
    assert {"shuffled", "stratified"} <= set(words(first).split())
    assert "0.3040" in first
    assert "by val/rmse it is last (0.3040; shuffled" in words(text)


def test_a_primary_metric_that_is_equal_for_all_agrees_with_nothing(tmp_path: Path) -> None:
    for sampler, rmse in (("shuffled", 0.2), ("stratified", 0.3)):
        for seed in range(3):
            drives = {"seen": reaching(0.0), "looks": reaching(0.5 if seed else 0.25)}
            manifest = {"primary": "closed_loop/seen/success_rate"}
            write_run(tmp_path, sampler, seed, metrics={"val/rmse": rmse}, drives=drives, manifest=manifest)
    text = words(shown(tmp_path, width=120))
    assert "stratified is equal to shuffled in every seed, to the last digit" in text
    assert "agree" not in text
    assert "[+0.0, +0.0]" not in text, "an interval without width would look like certainty"


def test_an_order_by_success_under_other_initial_states_is_not_told(tmp_path: Path) -> None:
    write_decided_by_driving(tmp_path, states={"shuffled": "some", "stratified": "others"})
    text = words(shown(tmp_path, width=120))
    assert "met other initial states" in text
    assert "is first of" not in text
    assert "agree" not in text


def test_success_that_decides_is_told_in_points_and_held_against_the_error(tmp_path: Path) -> None:
    write_decided_by_driving(tmp_path)
    text = words(shown(tmp_path, width=120))
    assert "Surely better than shuffled in success in looks: stratified by 26.0 points, p < 0.001." in text
    assert "in success in looks [points], paired by seed: right is better" in text
    assert "success in looks is the primary metric" in text
    assert "worse on any of 1 slice (scenario)." in text
    assert "By success in looks stratified is first of 2; by val/rmse it is last (0.3040; shuffled" in text
    assert "Better by success in looks and worse by val/rmse, both surely" in text


def test_page_of_a_study_decided_by_success_has_each_metric_once_and_draws_the_errors(tmp_path: Path) -> None:
    write_decided_by_driving(tmp_path)
    comparison = compare_runs(load_runs(tmp_path))
    titles = [column.title for column in results(comparison).columns]
    assert titles[2:4] == ["success in looks", "difference to baseline, points, 95 %"]
    assert len(set(titles)) == len(titles)
    assert {"success in seen", "success in unseen", "val/rmse [m/s]"} <= set(titles)
    differences = paired_differences(comparison)
    assert "val/rmse" in {choice.value for choice in differences.switches["metric"]}
    axes = differences.options["metrics"]
    assert axes[LOOKS] == {"unit": "points", "scale": 100, "better": "more"}
    assert axes["val/rmse"] == {"unit": "m/s", "scale": 1, "better": "less"}


def test_page_of_a_study_decided_by_success_maps_the_error_by_scenario(tmp_path: Path) -> None:
    write_decided_by_driving(tmp_path)
    drawn = scenario_map(compare_runs(load_runs(tmp_path)))
    assert drawn.options["unit"] == "m/s"
    assert set(drawn.table["scenario"]) == {"a"}
    assert set(drawn.table["rmse"]) == {0.2, 0.21, 0.3, 0.31}
