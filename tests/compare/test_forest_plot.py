"""The plot in the terminal is to scale, keeps to its width and hides nothing that reaches past it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from written_runs import write_run, write_study

from mobile_vla.compare.data.comparison import compare_runs
from mobile_vla.compare.data.runs import load_runs
from mobile_vla.compare.statistics.estimates import PairedDifference, paired_difference
from mobile_vla.compare.terminal.comparison_table import print_comparison
from mobile_vla.compare.terminal.forest_plot import Axis, line, print_forest

METRIC = "val/rmse"


def shown(root: Path, *, width: int = 80) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    print_forest(compare_runs(load_runs(root)), console)
    return console.export_text().splitlines()


VALUES = st.lists(st.floats(-1, 1), min_size=2, max_size=6)


@given(differences=st.lists(VALUES, min_size=1, max_size=6), width=st.integers(20, 60))
def test_every_line_is_as_wide_as_the_axis_and_shows_its_mean_once(differences: list[list[float]], width: int) -> None:
    pairs = [paired_difference(dict(enumerate(one)), dict.fromkeys(range(len(one)), 0.0)) for one in differences]
    axis = Axis.of(pairs, width=width)
    for one in pairs:
        text = line(METRIC, one, axis).plain
        assert len(text) == width
        assert text.count("○") + text.count("●") == 1 or "◂" in text or "▸" in text


@given(values=st.lists(st.floats(-1, 1), min_size=2, max_size=8, unique=True), width=st.integers(20, 60))
def test_columns_keep_the_order_of_values(values: list[float], width: int) -> None:
    axis = Axis(low=-0.5, high=0.8, width=width)
    columns = [axis.column(value) for value in sorted(values)]
    assert columns == sorted(columns)
    assert all(-1 <= column <= width for column in columns)
    assert all(
        (0 <= column < width) == (-0.5 <= value <= 0.8) for value, column in zip(sorted(values), columns, strict=True)
    )


def one(mean: float, half: float, episode_interval: tuple[float, float] | None = None) -> PairedDifference:
    return PairedDifference(
        mean=mean,
        spread=half,
        interval=(mean - half, mean + half),
        num_pairs=5,
        t_p_value=0.5,
        p_value=0.5,
        episode_interval=episode_interval,
    )


def test_mean_interval_zero_and_episodes_stand_where_they_are() -> None:
    axis = Axis(low=-10, high=10, width=21)
    assert line(METRIC, one(0, 2), axis).plain == " " * 8 + "├─○─┤" + " " * 8
    assert line(METRIC, one(-1, 3), axis).plain == " " * 6 + "├──○┼─┤" + " " * 8
    assert line(METRIC, one(5, 2), axis).plain == " " * 10 + "│  ├─○─┤" + " " * 3
    assert line(METRIC, one(5, 1, episode_interval=(-1, 9)), axis).plain == " " * 9 + "░│░░░├○┤░░░" + " "
    assert line(METRIC, one(5, 3, episode_interval=(4, 6)), axis).plain == " " * 10 + "│ ├─═○═─┤" + " " * 2


@pytest.mark.parametrize(("mean", "expected"), [(-30, "◂" + " " * 9 + "│" + " " * 10), (30, " " * 10 + "│         ▸")])
def test_what_lies_past_the_edge_is_an_arrow(mean: float, expected: str) -> None:
    assert line(METRIC, one(mean, 1), Axis(low=-10, high=10, width=21)).plain == expected


def test_one_diverged_sampler_does_not_hide_the_others(tmp_path: Path) -> None:
    study = {"shuffled": [0.20, 0.21, 0.22], "diverged": [9.0, 12.0, 7.0]}
    study |= {f"sampler{index}": [0.201, 0.212, 0.220 + index / 1000] for index in range(5)}
    write_study(tmp_path, study)
    lines = {row.split()[0]: row for row in shown(tmp_path) if row.strip()}
    assert "▸" in lines["diverged"]
    assert all(lines[f"sampler{index}"].count("─") >= 3 for index in range(5))


@pytest.mark.parametrize("num_samplers", [3, 24])
def test_it_keeps_to_80_columns_and_shows_every_sampler_best_first(tmp_path: Path, num_samplers: int) -> None:
    names = [f"a_sampler_with_a_long_name_{index:02}" for index in range(num_samplers - 1)]
    study = {name: [0.2 + 0.01 * index, 0.22 + 0.01 * index] for index, name in enumerate(names)}
    write_study(tmp_path, {"shuffled": [0.3, 0.31], **study})
    console = Console(width=80, record=True, file=io.StringIO())
    print_comparison(compare_runs(load_runs(tmp_path)), folder=tmp_path, console=console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    plot = shown(tmp_path)
    assert sum("○" in row for row in plot) == num_samplers - 1 + 1, "and the legend"
    assert "".join(row[:26].strip() for row in plot if row[:1] in "a_0123456789").startswith(names[0] + names[1])


def test_nothing_to_hold_against_a_baseline_draws_nothing(tmp_path: Path) -> None:
    write_run(tmp_path, "shuffled", 0, metrics={"val/rmse": 0.1})
    assert shown(tmp_path) == []
