"""Laws of the results: rates that add up, intervals as Wilson has them, and lines that can be read again."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_drives import KEYS, drive_keys, made_scene
from tiny_runs import strict_json

from mobile_vla.closed_loop.failures import FAILURES
from mobile_vla.closed_loop.results import EpisodeResult, episode_result, path_length_m, suite_metrics
from mobile_vla.sim.demonstrations.expert import drive as expert_drive
from mobile_vla.sim.demonstrations.expert import positions
from mobile_vla.streams import Stream

TO_GOAL = "aaaaaa" + "w" * 18
OUTCOMES = ("success", "collision", "wrong_target", "left_room", "timeout")
SCENARIOS = ("1box_hori_left_core_close", "1box_hori_left_variant_far", "2box_vert_right_core_far")


def made_result(
    outcome: str, *, failure: str = "other", scenario: str = SCENARIOS[0], task: str | None = None
) -> EpisodeResult:
    is_success = outcome == "success"
    return EpisodeResult(
        suite="seen",
        index=0,
        scenario=scenario,
        side=scenario.split("_")[2],
        task=task,
        instruction="Go",
        outcome=outcome,  # pyright: ignore[reportArgumentType]
        success=is_success,
        failure=None if is_success else failure,
        touched=None,
        num_steps=20,
        time_to_goal_s=2.0 if is_success else None,
        final_error_m=0.5,
        path_length_m=3.0,
        expert_path_length_m=2.0,
        command_change_m_s=0.1,
    )


results = st.lists(
    st.builds(
        made_result,
        st.sampled_from(OUTCOMES),
        failure=st.sampled_from(FAILURES),
        scenario=st.sampled_from(SCENARIOS),
    ),
    min_size=1,
    max_size=40,
)


@given(results=results)
def test_rates_add_up(results: list[EpisodeResult]) -> None:
    metrics = suite_metrics(results)
    assert sum(metrics[f"{outcome}_rate"] for outcome in OUTCOMES) == pytest.approx(1)
    shares = sum(metrics[f"failure/{name}"] for name in FAILURES)
    assert shares == pytest.approx(1 - metrics["success_rate"])
    assert metrics["episodes"] == len(results)
    assert all(math.isfinite(value) for value in metrics.values())
    strict_json(json.dumps(metrics))


@given(results=results)
def test_the_interval_is_wilsons(results: list[EpisodeResult]) -> None:
    metrics, count, z = suite_metrics(results), len(results), 1.959963984540054
    rate = sum(result.success for result in results) / count
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    assert metrics["success_low"] == pytest.approx(middle - half, abs=1e-9)
    assert metrics["success_high"] == pytest.approx(middle + half, abs=1e-9)
    assert 0 <= metrics["success_low"] <= metrics["success_rate"] <= metrics["success_high"] <= 1


@given(results=results)
def test_the_mean_over_scenarios_weighs_each_alike(results: list[EpisodeResult]) -> None:
    metrics = suite_metrics(results)
    cells = {result.scenario.rsplit("_", 2)[0] for result in results}
    rates = {cell: fmean(r.success for r in results if r.scenario.startswith(cell)) for cell in cells}
    assert {key for key in metrics if key.startswith(("success_rate/scenario_1", "success_rate/scenario_2"))} == {
        f"success_rate/scenario_{cell}" for cell in cells
    }
    for cell, rate in rates.items():
        assert metrics[f"success_rate/scenario_{cell}"] == pytest.approx(rate)
    assert metrics["success_rate/scenario_mean"] == pytest.approx(fmean(rates.values()))


TASKS = ("left", "right", "red", "blue")

results_of_tasks = st.lists(
    st.builds(
        lambda outcome, scenario, task: made_result(outcome, scenario=f"{scenario}_redblue_task_{task}", task=task),
        st.sampled_from(OUTCOMES),
        st.sampled_from(SCENARIOS),
        st.sampled_from(TASKS),
    ),
    min_size=1,
    max_size=40,
)


@given(results=results_of_tasks)
def test_success_by_task_averages_back_to_success(results: list[EpisodeResult]) -> None:
    metrics, tasks = suite_metrics(results), {result.task for result in results}
    rates = {task: metrics.get(f"success_rate/task_{task}") for task in TASKS}
    if len(tasks) == 1:
        assert set(rates.values()) == {None}
        return
    assert {task for task, rate in rates.items() if rate is not None} == tasks
    assert fmean(rates[result.task] for result in results) == pytest.approx(metrics["success_rate"])


@given(results=results_of_tasks)
def test_a_task_is_no_part_of_the_scenario_or_its_distance(results: list[EpisodeResult]) -> None:
    without = [replace(result, scenario="_".join(result.scenario.split("_")[:5]), task=None) for result in results]
    metrics = suite_metrics(results)
    assert {key: value for key, value in metrics.items() if "/task_" not in key} == suite_metrics(without)


@given(results=results)
def test_the_order_of_drives_does_not_matter(results: list[EpisodeResult]) -> None:
    assert suite_metrics(results) == pytest.approx(suite_metrics(results[::-1]))


def test_means_over_nothing_are_left_out() -> None:
    failed = suite_metrics([made_result("timeout")] * 3)
    assert not {"time_to_goal_s", "path_ratio"} & set(failed)
    assert (failed["success_rate"], failed["success_low"], failed["success_rate/scenario_mean"]) == (0, 0, 0)
    no_expert = suite_metrics([replace(made_result("success"), expert_path_length_m=None)])
    assert no_expert["time_to_goal_s"] == 2
    assert "path_ratio" not in no_expert


def test_time_and_path_are_means_over_successes() -> None:
    one, other = made_result("success"), replace(made_result("success"), time_to_goal_s=3.0, path_length_m=2.0)
    metrics = suite_metrics([one, other, made_result("collision")])
    assert metrics["time_to_goal_s"] == pytest.approx(2.5)
    assert metrics["path_ratio"] == pytest.approx((1.5 + 1.0) / 2)
    assert metrics["final_error_m"] == pytest.approx(0.5)


def measured(keys: str, expert_path: np.ndarray | None = None) -> EpisodeResult:
    return episode_result(drive_keys(keys), suite="seen", index=3, expert_path=expert_path)


def test_a_success_is_measured() -> None:
    result = measured(TO_GOAL, expert_path=np.array([(0, 0), (3, 4), (3, 5)]))
    assert (result.suite, result.index, result.side, result.task) == ("seen", 3, "left", None)
    assert (result.scenario, result.instruction) == ("1box_hori_left_core_medium", "Go to the left bottle")
    assert (result.outcome, result.success, result.failure, result.touched) == ("success", True, None, None)
    assert result.num_steps == 26
    assert result.time_to_goal_s == pytest.approx(2.6)
    assert result.path_length_m == pytest.approx(24 * 0.115)
    assert result.expert_path_length_m == pytest.approx(6)
    assert result.final_error_m == pytest.approx(np.hypot(2.1 - 18 * 0.115, 0.7 - 6 * 0.115), abs=1e-6)
    # From left to ahead it changes by sqrt(2) times the speed, to a stand by the speed, in 25 changes.
    assert result.command_change_m_s == pytest.approx(1.15 * (math.sqrt(2) + 1) / 25)


def test_a_failure_is_measured() -> None:
    result = measured("w" * 20)
    assert (result.outcome, result.success, result.failure, result.touched) == (
        "collision",
        False,
        "straight_only",
        "box_0",
    )
    assert (result.time_to_goal_s, result.expert_path_length_m, result.command_change_m_s) == (None, None, 0)
    assert result.num_steps == 6


def test_the_experts_own_path_has_ratio_1() -> None:
    scene = made_scene()
    actions = expert_drive(scene, Stream(0, "test").at(0))
    keys = _keys_of(actions)
    result = episode_result(drive_keys(keys), suite="seen", index=0, expert_path=positions(scene, actions))
    assert suite_metrics([result])["path_ratio"] == pytest.approx(1)


@pytest.mark.parametrize("keys", [TO_GOAL, "w" * 20, "", "d" * 6 + "w" * 30])
def test_a_line_can_be_read_again(keys: str) -> None:
    result = measured(keys)
    line = json.dumps(asdict(result))
    assert "\n" not in line
    assert EpisodeResult(**strict_json(line)) == result


@pytest.mark.parametrize(
    ("way", "length_m"), [([(0, 0)], 0), ([(0, 0), (3, 4)], 5), ([(0, 0), (1, 0), (0, 0), (0, 2)], 4)]
)
def test_a_way_is_as_long_as_its_steps(way: Sequence[tuple[float, float]], length_m: float) -> None:
    assert path_length_m(np.array(way, float)) == length_m


def _keys_of(actions: np.ndarray) -> str:
    names = {signs: key for key, signs in KEYS.items()}
    return "".join(names[tuple(np.sign(action[:2]).astype(int).tolist())] for action in actions)
