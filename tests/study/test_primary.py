"""A primary metric is refused at the first evaluation exactly when no summary will have it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_drives import drive_keys
from tiny_runs import compose_config, run_in

from mobile_vla.build import Run, build_closed_loop, build_run
from mobile_vla.closed_loop.results import episode_result, suite_metrics
from mobile_vla.errors import ConfigError
from mobile_vla.study.primary import check_primary

EVALUATION = {"val/loss": 1.0, "val/rmse": 1.0, "val/rmse/linear_x": 1.0}
TO_GOAL = "aaaaaa" + "w" * 18
MAY_BE_PRIMARY = ("val/", "probe/", "best/", "train/", "sampler/", "shortcut/", "closed_loop/")


def asked_for(run: Run, primary: str) -> Run:
    return replace(run, config=run.config | {"study": {"primary": primary}})


@pytest.fixture(scope="module")
def run(tiny: tuple[str, ...]) -> Run:
    """A run that drives in two suites when it is trained."""
    cfg = compose_config([*tiny, "~closed_loop.suites.looks", "~closed_loop.suites.shifted"])
    return replace(build_run(cfg), closed_loop=build_closed_loop(cfg.closed_loop))


@pytest.fixture(scope="module")
def measured(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The keys of everything that a run can measure."""
    summary = run_in(tmp_path_factory.mktemp("run"), *tiny).summary
    results = [
        episode_result(drive_keys(keys), suite="seen", index=index, expert_path=np.eye(2))
        for index, keys in enumerate((TO_GOAL, "w" * 30))
    ]
    assert {result.success for result in results} == {True, False}
    driven = [f"closed_loop/seen/{key}" for key in suite_metrics(results)]
    numbers = [key for key, value in summary.items() if isinstance(value, int | float)]
    return [*driven, *(key for key in numbers if key.startswith(MAY_BE_PRIMARY))]


def test_whatever_a_run_measures_may_decide(run: Run, measured: list[str]) -> None:
    evaluation = dict.fromkeys((key for key in measured if key.startswith(("val/", "probe/"))), 1.0)
    for key in measured:
        check_primary(asked_for(run, key), evaluation)


@pytest.mark.parametrize(
    ("primary", "close"),
    [
        ("val/rsme", "val/rmse"),
        ("rmse", "val/rmse"),
        ("best/rmse", "best/val/rmse"),
        ("closed_loop/seen/sucess_rate", "closed_loop/seen/success_rate"),
        ("closed_loop/sen/success_rate", "closed_loop/seen/success_rate"),
        ("closed_loop/looks/success_rate", "closed_loop/unseen/success_rate"),
        ("shortcut/images_mean/rmsechange", "shortcut/images_mean/rmse_change"),
        ("inner/rmse", "val/rmse"),
        ("", "val/"),
    ],
)
def test_what_it_does_not_measure_is_refused_with_what_is_meant(run: Run, primary: str, close: str) -> None:
    with pytest.raises(ConfigError, match=rf"study\.primary={primary}: .* such as [^;]*{close}"):
        check_primary(asked_for(run, primary), EVALUATION)


def test_what_is_not_planned_is_not_measured(run: Run) -> None:
    without = replace(run, closed_loop=None, evaluation=replace(run.evaluation, shortcuts=False))
    for primary in (
        "closed_loop/seen/success_rate",
        "closed_loop/seen/success_rate/scenario_1",
        "shortcut/uses_images",
    ):
        check_primary(asked_for(run, primary), EVALUATION)
        with pytest.raises(ConfigError, match=primary):
            check_primary(asked_for(without, primary), EVALUATION)
