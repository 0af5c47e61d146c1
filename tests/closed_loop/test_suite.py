"""Laws of the suites: states of their own, the same for every policy, and what their names promise."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from made_drives import AT_ONCE, make_small_env
from made_worlds import write_world
from tiny_runs import compose_config, options_of

from mobile_vla.closed_loop.drivers import Expert, expert_actions
from mobile_vla.closed_loop.rollout import roll_out
from mobile_vla.closed_loop.suite import Suite, digest
from mobile_vla.closed_loop.trained_scenarios import TrainedScenarios
from mobile_vla.config import check_config
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.run.build import build_closed_loop
from mobile_vla.sim.demonstrations.collect import record
from mobile_vla.sim.environment import BottleEnv
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.sim.scenarios import spread_scenarios
from mobile_vla.sim.scene import BOTTLE_X_M, PLACEMENTS, Scenario, Scene
from mobile_vla.streams import Stream

ALL = tuple(sorted(set(spread_scenarios(250)), key=lambda scenario: scenario.name))
HELD_OUT = tuple(scenario for scenario in ALL if scenario.num_boxes == 2 and scenario.distance == "far")
TRAINED = tuple(scenario for scenario in ALL if scenario not in HELD_OUT)
SUITES = options_of("closed_loop/suite")


@cache
def suite_of(option: str, *overrides: str) -> Suite:
    """Return a suite as a run would build it."""
    cfg = compose_config([f"+closed_loop/suite@closed_loop.suites.tried={option}", *overrides])
    check_config(cfg)
    return build_closed_loop(cfg.closed_loop).suites["tried"]


def made_suite(**options: object) -> Suite:
    values = asdict(suite_of("seen"))
    return Suite(**(values | options))


@cache
def drawn(option: str, count: int) -> list[InitialState]:
    return suite_of(option).states(count, trained_scenarios())


def things(scene: Scene) -> set[float]:
    """Return coordinates that no two scenes of a stream share."""
    return {*scene.start, *(x for x, _ in scene.bottles.values()), *(box.x for box in scene.boxes)}


@pytest.fixture(scope="module")
def recorded() -> list[Scene]:
    return [recording.scene for recording in record(num_episodes=250, seed=0)]


def trained_scenarios(
    trained: Sequence[Scenario] = TRAINED, held_out: Sequence[Scenario] = HELD_OUT
) -> TrainedScenarios:
    return TrainedScenarios(image_size=16, trained=tuple(trained), held_out=tuple(held_out))


def hashed(states: Sequence[InitialState], *, max_steps: int = 60) -> str:
    return digest(states, suite_of("seen"), max_steps=max_steps)


def test_a_run_drives_every_shipped_suite() -> None:
    assert set(build_closed_loop(compose_config().closed_loop).suites) == set(SUITES)
    assert {"seen", "unseen", "shifted", "looks"} <= set(SUITES)


@pytest.mark.parametrize("option", SUITES)
def test_the_first_states_are_the_same_however_many_are_asked_for(option: str) -> None:
    states = drawn(option, 60)
    again = suite_of(option).states(30, trained_scenarios())
    assert states[:30] == again
    assert hashed(states[:30]) == hashed(again)
    assert hashed(states) != hashed(again)


@pytest.mark.parametrize("option", SUITES)
def test_no_state_was_recorded_or_is_another_suites(option: str, recorded: list[Scene]) -> None:
    states = drawn(option, 200)
    before = set().union(*(things(scene) for scene in recorded))
    others = [state for other in SUITES if other != option for state in drawn(other, 200)]
    before |= set().union(*(things(state.scene) for state in others))
    counted = Counter(thing for state in states for thing in things(state.scene))
    assert not before & set(counted)
    assert max(counted.values()) == 1


@pytest.mark.parametrize("option", SUITES)
def test_no_scenario_comes_twice_more_than_another_and_sides_are_balanced(option: str) -> None:
    suite = suite_of(option)
    for trained, held_out in ((ALL, ()), (TRAINED, HELD_OUT)):
        states = suite.states(200, trained_scenarios(trained, held_out))
        counts = Counter(state.scene.scenario for state in states)
        assert max(counts.values()) - min(counts.values()) <= 1
    num_scenarios = len(counts)
    sides = Counter(state.scene.scenario.side for state in states[: 200 // num_scenarios * num_scenarios])
    assert sides["left"] == sides["right"]


@pytest.mark.parametrize("option", SUITES)
def test_the_instruction_names_the_side_and_states_draw_their_own_shake(option: str) -> None:
    states = drawn(option, 30)
    for state in states:
        side = state.scene.scenario.side
        assert side in state.instruction.split()
        assert {"left": "right", "right": "left"}[side] not in state.instruction
    assert len({state.shake for state in states}) == len(states)


def test_seen_holds_the_trained_scenarios_alone() -> None:
    states = drawn("seen", 80)
    assert {state.scene.scenario for state in states} == set(TRAINED)
    assert {state.camera_shake_rad for state in states} == {0.0}


def test_unseen_holds_what_was_held_out_and_bottles_farther_than_any_recorded() -> None:
    states = drawn("unseen", 200)
    new = {state.scene.scenario for state in states} - set(HELD_OUT)
    assert set(HELD_OUT) < {state.scene.scenario for state in states}
    assert {scenario.distance for scenario in new} == {"beyond"}
    assert not new & set(ALL)
    farthest = max(BOTTLE_X_M.values()) + max(placement.bottle_jitter_m[1] for placement in PLACEMENTS.values())
    for state in states:
        if state.scene.scenario in new:
            assert min(x for x, _ in state.scene.bottles.values()) > farthest
    assert {scenario.distance for scenario in _scenarios("unseen", TRAINED, ())} == {"beyond"}


def test_shifted_bottles_stand_where_none_was_recorded() -> None:
    low, high = (min, 0), (max, 1)
    jitter, aside, box_x = (
        tuple(of(getattr(placement, name)[end] for placement in PLACEMENTS.values()) for of, end in (low, high))
        for name in ("bottle_jitter_m", "bottle_y_m", "box_x_m")
    )
    states = drawn("shifted", 200)
    assert {state.scene.scenario.distance for state in states} == set(BOTTLE_X_M)
    for scene in (state.scene for state in states):
        for x, y in scene.bottles.values():
            assert not any(recorded_x + jitter[0] <= x <= recorded_x + jitter[1] for recorded_x in BOTTLE_X_M.values())
            assert not aside[0] < abs(y) < aside[1]
        assert not box_x[0] < scene.boxes[0].x < box_x[1]


def test_looks_differ_in_looks_alone_and_go_beyond_the_recorded_ones(recorded: list[Scene]) -> None:
    states = drawn("looks", 200)
    assert {state.scene.scenario for state in states} == set(TRAINED)
    assert {state.camera_shake_rad for state in states} == {0.02}
    for value in (lambda look: look.ambient, lambda look: look.light[2], lambda look: look.tint[0]):
        seen = [value(scene.look) for scene in recorded]
        is_outside = [not min(seen) <= value(state.scene.look) <= max(seen) for state in states]
        assert np.mean(is_outside) > 0.2


@pytest.mark.parametrize("option", SUITES)
def test_the_expert_drives_every_suite(option: str) -> None:
    states = drawn(option, 12)
    drives = roll_out(Expert(expert_actions(states)), states, execution=AT_ONCE, make_env=make_small_env)
    assert [drive.outcome for drive in drives] == ["success"] * len(states)


def test_the_digest_changes_with_any_change() -> None:
    states = drawn("looks", 2)
    state, scene = states[0], states[0].scene
    box, look = scene.boxes[0], scene.look
    changed = [
        replace(state, instruction=state.instruction + "."),
        replace(state, camera_shake_rad=0.021),
        replace(state, shake=Stream(1, "shake")),
        *(
            replace(state, scene=replace(scene, **change))
            for change in (
                {"scenario": replace(scene.scenario, side="right" if scene.scenario.side == "left" else "left")},
                {"start": (scene.start[0], np.nextafter(scene.start[1], 1))},
                {"boxes": (replace(box, height=box.height + 1e-9), *scene.boxes[1:])},
                {"boxes": scene.boxes[1:]},
                {"bottles": {**scene.bottles, "left": (2.0, 0.7)}},
                {"room": replace(scene.room, half_width=2.0)},
                {"look": replace(look, ambient=look.ambient + 1e-9)},
            )
        ),
    ]
    digests = [hashed([one, states[1]]) for one in (state, *changed)]
    digests += [hashed(states[::-1]), hashed([state]), hashed([state, states[1]], max_steps=59)]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"colour": ["red"]}, "colour: no such field; expected one of num_boxes, layout, side, placement, distance"),
        ({"layout": ["diagonal"]}, r"layout: \['diagonal'\]; expected one or more of hori, vert"),
        ({"side": ["middle"]}, r"side: \['middle'\]; expected one or more of left, right"),
        (
            {"placement": ["wider"]},
            r"placement: \['wider'\]; expected one or more of core, variant \(placements",
        ),
        ({"distance": ["beyond"]}, r"distance: \['beyond'\]; expected one or more of close, far, medium"),
        ({"num_boxes": ["two"]}, r"num_boxes: \['two'\]"),
        ({"num_boxes": ["2"]}, r"num_boxes: \['2'\]"),
        ({"num_boxes": [0]}, r"num_boxes: \[0\]"),
        ({"side": []}, "side"),
        ({"colours": ["green"]}, r"colours: \['green'\]; expected one or more of bluered, redblue"),
        ({"named_by": ["colour"]}, r"changed=.*named_by=colour: both bottles have the same colour.*redblue, bluered"),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(changed: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made_suite(changed=changed).states(2, trained_scenarios())


def test_changes_are_combined() -> None:
    changed = {"side": ["left", "right"], "num_boxes": [1, 2, 3]}
    scenarios = {
        state.scene.scenario for state in made_suite(changed=changed).states(20, trained_scenarios(ALL[:1], ()))
    }
    assert scenarios == {replace(ALL[0], side=side, num_boxes=num) for side in ("left", "right") for num in (1, 2, 3)}


def test_a_suite_in_a_folder_of_the_users_own_is_built(tmp_path: Path) -> None:
    folder = tmp_path / "closed_loop/suite"
    folder.mkdir(parents=True)
    content = "defaults: [seen, _self_]\nseed: 7\nchanged:\n  distance: [nextdoor]\ndistances_m:\n  nextdoor: 1.9\n"
    (folder / "nextdoor.yaml").write_text(content)
    suite = suite_of("nextdoor", f"hydra.searchpath=[file://{tmp_path}]")
    states = suite.states(10, trained_scenarios())
    assert {state.scene.scenario.distance for state in states} == {"nextdoor"}
    assert {round(x, 0) for state in states for x, _ in state.scene.bottles.values()} == {2.0}


def test_a_suite_in_a_world_of_the_users_own_is_driven(tmp_path: Path) -> None:
    path = write_world(tmp_path)
    suite = suite_of("seen", f"closed_loop.suites.tried.mjcf={path}")
    states = suite.states(6, trained_scenarios())
    assert len({state.scene.start for state in states}) == 6
    assert {len(state.scene.boxes) for state in states} == {3}
    drives = roll_out(
        Expert(expert_actions(states)),
        states,
        execution=AT_ONCE,
        make_env=lambda: BottleEnv(image_size=4, mjcf=path),
    )
    assert [drive.outcome for drive in drives] == ["success"] * 6


def test_a_world_that_is_not_there_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(UserError, match=r"none\.xml: no such file"):
        suite_of("seen", "closed_loop.suites.tried.mjcf=none.xml")


def _scenarios(option: str, trained: tuple[Scenario, ...], held_out: tuple[Scenario, ...]) -> set[Scenario]:
    states = suite_of(option).states(100, trained_scenarios(trained, held_out))
    return {state.scene.scenario for state in states}
