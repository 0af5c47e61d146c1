"""A primary metric is refused at the first evaluation where no summary will have it, or no order follows from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_drives import drive_keys
from tiny_runs import Ran, compose_config

from mobile_vla.closed_loop.results import episode_result, suite_metrics
from mobile_vla.errors import ConfigError
from mobile_vla.run.build import Run, build_closed_loop, build_run
from mobile_vla.run.primary import check_primary

EVALUATION = {"val/loss": 1.0, "val/rmse": 1.0, "val/rmse/linear_x": 1.0, "probe/rmse": 1.0}
TO_GOAL = "aaaaaa" + "w" * 18


def asked_for(run: Run, primary: str) -> Run:
    return replace(run, config=run.config | {"study": {"primary": primary}})


@pytest.fixture(scope="module")
def run(tiny: tuple[str, ...]) -> Run:
    """A run that drives in two suites when it is trained."""
    cfg = compose_config([*tiny, "closed_loop=default", "~closed_loop.suites.looks", "~closed_loop.suites.shifted"])
    return replace(build_run(cfg), closed_loop=build_closed_loop(cfg.closed_loop))


@pytest.mark.parametrize("name", ["success_rate", "success_rate/scenario_mean", "final_error_m"])
def test_what_drives_come_to_may_decide_where_they_are_planned(run: Run, name: str) -> None:
    results = [
        episode_result(drive_keys(keys), suite="seen", index=index, expert_path=np.eye(2))
        for index, keys in enumerate((TO_GOAL, "w" * 30))
    ]
    assert name in suite_metrics(results)
    primary = f"closed_loop/seen/{name}"
    check_primary(asked_for(run, primary), EVALUATION)
    with pytest.raises(ConfigError, match=primary):
        check_primary(asked_for(replace(run, closed_loop=None), primary), EVALUATION)


def test_errors_and_losses_of_a_real_run_may_decide(run: Run, whole: Ran) -> None:
    measured = [key for key in whole.summary if key.startswith(("val/rmse", "val/loss", "probe/"))]
    assert measured[:3]
    for primary in measured:
        check_primary(asked_for(run, primary), whole.rows[0])


@pytest.mark.parametrize(
    ("primary", "close"),
    [
        ("val/rsme", "val/rmse"),
        ("rmse", "val/rmse"),
        ("best/val/rmse", "val/rmse"),  # chosen among steps, by the metric itself
        ("train/rmse", "val/rmse"),  # of other windows with each sampler
        ("closed_loop/seen/sucess_rate", "closed_loop/seen/success_rate"),
        ("closed_loop/sen/success_rate", "closed_loop/seen/success_rate"),
        ("closed_loop/looks/success_rate", "closed_loop/unseen/success_rate"),
        ("inner/rmse", "val/rmse"),
        ("closed_loop/seen/time_to_goal_s", "closed_loop/seen/"),  # of the drives that succeeded alone
        ("sampler/coverage", ""),  # measured, and neither better high nor low
        ("nonsense", "val/rmse, closed_loop/seen/success_rate"),
        ("", "val/rmse"),
    ],
)
def test_what_could_not_rank_is_refused_with_what_is_meant(run: Run, primary: str, close: str) -> None:
    with pytest.raises(ConfigError, match=rf"study\.primary={primary}: .* such as [^;]*{close}"):
        check_primary(asked_for(run, primary), EVALUATION | {"sampler/coverage": 1.0})
