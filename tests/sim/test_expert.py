"""Laws of the expert: nine keyboard classes, no contact, a stop at the right place, in nearly every scene."""

import mujoco
import numpy as np
import pytest
from drawn_scenarios import scenario_at, scenarios
from hypothesis import given, settings
from hypothesis import strategies as st

from mobile_vla.errors import UserError
from mobile_vla.sim.demonstrations.expert import drive, positions, succeeds, to_actions
from mobile_vla.sim.demonstrations.planner import PulseCosts, plan_pulses
from mobile_vla.sim.scene import STOP_TOLERANCE_M, Scenario, Scene, sample_scene
from mobile_vla.sim.world import build_model
from mobile_vla.streams import Stream

COSTS = PulseCosts(diagonal=1.5, press=0.5, tap=0.5, left_bias=0.0)


def has_contact(scene: Scene, path: np.ndarray) -> bool:
    """Slide MuJoCo's robot along a path and ask the engine, not our own geometry."""
    model = build_model(scene)
    data = mujoco.MjData(model)
    for x, y in path:
        data.qpos[:] = (x, y)
        mujoco.mj_forward(model, data)
        if data.ncon:
            return True
    return False


@given(scenario=scenarios, seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_a_drive_stops_at_the_goal_without_contact(scenario: Scenario, seed: int) -> None:
    stream = Stream(seed, "test")
    scene = sample_scene(scenario, stream, position=0)
    actions = drive(scene, stream.child("drive").at(0))
    path = positions(scene, actions)
    assert succeeds(scene, actions)
    assert np.hypot(*(path[-1] - scene.goal())) <= STOP_TOLERANCE_M
    assert not has_contact(scene, np.vstack([path, (path[:-1] + path[1:]) / 2]))


@given(scenario=scenarios, seed=st.integers(0, 2**32))
@settings(max_examples=40)
def test_actions_are_the_nine_keyboard_classes_and_begin_and_end_standing(scenario: Scenario, seed: int) -> None:
    stream = Stream(seed, "test")
    actions = drive(sample_scene(scenario, stream, position=0), stream.at(0))
    assert actions.dtype == np.float32
    assert set(np.unique(actions[:, :2])) <= {np.float32(-1.15), np.float32(0), np.float32(1.15)}
    assert not actions[:, 2].any()
    assert not actions[0].any()
    assert not actions[-1].any()


def test_the_expert_succeeds_in_at_least_99_of_100_scenes() -> None:
    stream = Stream(3, "test")
    outcomes = []
    for position in range(300):
        scenario = scenario_at(position)
        scene = sample_scene(scenario, stream, position=position)
        outcomes.append(succeeds(scene, drive(scene, stream.child("drive").at(position))))
    assert np.mean(outcomes) >= 0.99


def test_a_frame_is_seen_before_its_action() -> None:
    scene = sample_scene(scenario_at(0), Stream(0, "test"), position=0)
    actions = drive(scene, Stream(0, "test").at(0))
    path = positions(scene, actions)
    assert len(path) == len(actions)
    assert path[0] == pytest.approx(scene.start)
    assert np.diff(path, axis=0) == pytest.approx(actions[:-1, :2] * 0.1)


def test_contact_and_a_wrong_stop_are_no_success() -> None:
    scene = sample_scene(scenario_at(0), Stream(0, "test"), position=0)
    straight = to_actions([(0, 0), *[(1, 0)] * 12, (0, 0)])
    assert not succeeds(scene, straight)
    assert has_contact(scene, positions(scene, straight))
    assert not succeeds(scene, to_actions([(0, 0), (0, 0)]))
    arrived = drive(scene, Stream(0, "test").at(0))
    still_moving = arrived[: np.flatnonzero(arrived.any(axis=1))[-1] + 1]
    assert not succeeds(scene, still_moving)


def test_the_best_pulses_lead_to_the_goal_and_cost_what_the_plan_says() -> None:
    for position in range(5):
        scene = sample_scene(scenario_at(position), Stream(1, "test"), position=position)
        plan = plan_pulses(scene, clearance_m=0.08, costs=COSTS)
        cell, promised, paid = plan.start, None, 0.0
        while cell != plan.goal:
            options = np.flatnonzero(plan.begin == cell)
            best = options[plan.cost[options].argmin()]
            promised = plan.cost[best] if promised is None else promised
            rest = plan.cost[plan.begin == plan.end[best]].min() if plan.end[best] != plan.goal else 0.0
            paid += plan.cost[best] - rest
            cell = plan.end[best]
        assert paid == pytest.approx(promised)


def test_a_goal_that_cannot_be_reached_is_refused() -> None:
    scene = sample_scene(scenario_at(0), Stream(0, "test"), position=0)
    with pytest.raises(UserError, match=r"1box_vert_left_core_close: no way from .* keeps 0\.60 m"):
        plan_pulses(scene, clearance_m=0.6, costs=COSTS)
