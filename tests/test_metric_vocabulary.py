"""Check that one vocabulary describes every metric."""

from __future__ import annotations

import pytest
from tiny_runs import Ran

from mobile_vla import metrics
from mobile_vla.metrics import ERROR, best_first, entry_of, is_better, is_metric, shown, title_of


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("val/rmse", "lower"),
        ("val/rmse/scenario_mean", "lower"),
        ("best/val/rmse", "lower"),
        ("closed_loop/seen/success_rate", "higher"),
        ("closed_loop/seen/success_rate/scenario_mean", "higher"),
        ("closed_loop/seen/success_rate/scenario_1box", "higher"),
        ("closed_loop/seen/collision_rate", "lower"),
        ("closed_loop/seen/final_error_m", "lower"),
        ("train/windows_per_s", "higher"),
        ("train/loss", None),
        ("train/rmse", None),
        ("sampler/coverage", None),
        ("sampler/share/1box", None),
        ("samples_seen", None),
        ("val/of_another_version", None),
    ],
)
def test_which_way_is_better(name: str, direction: str | None) -> None:
    assert entry_of(name).direction == direction
    assert is_better(name, 1.0) == (direction == "higher")
    assert is_better(name, -1.0) == (direction == "lower")
    assert not is_better(name, 0.0)
    in_order = sorted([0.5, None, 0.1, 0.9], key=lambda value: best_first(name, value))
    assert in_order == ([0.9, 0.5, 0.1, None] if direction == "higher" else [0.1, 0.5, 0.9, None])


def test_every_number_that_a_run_writes_is_described(whole: Ran) -> None:
    for name in whole.rows[-1].keys() - {"step"}:
        assert entry_of(name).kind != "recorded" or name == "memory/peak_gib"
        assert "no other entry" not in entry_of(name).meaning, name


def test_what_may_decide_says_which_way() -> None:
    for entry in metrics.VOCABULARY:
        assert not entry.may_decide or entry.direction
        assert not entry.shown or "{" not in entry.pattern


def test_titles_and_kinds() -> None:
    assert title_of("closed_loop/looks/success_rate") == "success in looks"
    assert title_of("closed_loop/looks/success_rate/scenario_1box") == "closed_loop/looks/success_rate/scenario_1box"
    assert title_of("baseline/hold_last/rmse") == "hold-last action"
    assert is_metric("val/rmse")
    for name in ("baseline/mean/rmse", "parameters/total", "step", "checkpoint/last", "shortcut/images_mean/rmse"):
        assert not is_metric(name)
    assert shown("table")[0] == ERROR
