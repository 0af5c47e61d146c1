"""Laws of driving several tasks: every suite holds them, the wrong colour is the wrong target, figures come by task."""

import collections
import colorsys
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from made_drives import AT_ONCE, make_small_env
from made_worlds import write_world
from tiny_runs import SMALLEST_MODEL, Ran, compose_config, options_of, run_in

from mobile_vla.closed_loop.drivers import Expert, expert_actions
from mobile_vla.closed_loop.failures import failure_of
from mobile_vla.closed_loop.rollout import roll_out
from mobile_vla.closed_loop.suite import Suite
from mobile_vla.closed_loop.trained_scenarios import TrainedScenarios
from mobile_vla.config import check_config
from mobile_vla.run.build import build_closed_loop, build_dataset
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.sim.scenarios import shares_of, spread_scenarios
from mobile_vla.sim.scene import BOTTLE_COLOURS, OTHER_SIDE, Scenario

TASKS = {"left", "right", "red", "blue"}
SUITES = options_of("closed_loop/suite")
SHARES = shares_of(["side", "colour"])


def trained(*scenarios: Scenario) -> TrainedScenarios:
    trained = scenarios or tuple(sorted(set(spread_scenarios(500, SHARES)), key=lambda scenario: scenario.name))
    return TrainedScenarios(image_size=16, trained=trained, held_out=())


@cache
def suite_of(option: str, *overrides: str) -> Suite:
    cfg = compose_config([f"+closed_loop/suite@closed_loop.suites.tried={option}", *overrides])
    check_config(cfg)
    closed_loop = build_closed_loop(cfg.closed_loop)
    assert closed_loop is not None
    return closed_loop.suites["tried"]


@cache
def drawn(option: str) -> list[InitialState]:
    return suite_of(option).states(192, trained())


@pytest.mark.parametrize("option", SUITES)
def test_every_task_is_asked_as_often_as_it_should_be_and_colours_stay_what_they_are_called(option: str) -> None:
    states = drawn(option)
    tasks = collections.Counter(state.scene.scenario.task for state in states)
    assert set(tasks) == TASKS
    assert min(tasks.values()) >= 0.7 * len(states) / len(TASKS)
    for state in states:
        scenario, look = state.scene.scenario, state.scene.look
        assert scenario.target in state.instruction.split()
        assert scenario.colours is not None
        for colour, rgb in zip(BOTTLE_COLOURS[scenario.colours], look.bottle_rgb, strict=True):
            lit = np.array(rgb) * look.tint
            hue, saturation, _ = colorsys.rgb_to_hsv(*(lit / lit.max()))
            assert saturation > 0.5
            assert min(abs(hue - own) for own in ({"red": (0, 1), "blue": (0.62,)}[colour])) < 0.08


@pytest.mark.parametrize("option", SUITES)
def test_the_expert_solves_every_task(option: str) -> None:
    states = drawn(option)[:12]
    assert len({state.scene.scenario.task for state in states}) > 2
    drives = roll_out(Expert(expert_actions(states)), states, execution=AT_ONCE, make_env=make_small_env)
    assert [drive.outcome for drive in drives] == ["success"] * len(states)


def test_to_take_the_other_bottle_is_the_wrong_target() -> None:
    states = drawn("seen")[:12]
    others = [
        replace(state, scene=replace(scene, scenario=replace(scene.scenario, side=OTHER_SIDE[scene.scenario.side])))
        for state in states
        for scene in [state.scene]
    ]
    drives = roll_out(Expert(expert_actions(others)), states, execution=AT_ONCE, make_env=make_small_env)
    assert {drive.outcome for drive in drives} == {"wrong_target"}
    assert {failure_of(drive) for drive in drives} == {"left_right_confusion"}


def test_a_policy_taught_sides_may_be_asked_for_colours() -> None:
    only = Scenario(num_boxes=1, layout="hori", side="left", placement="core", distance="medium")
    changes = ("+closed_loop.suites.tried.changed.colours=[redblue,bluered]",)
    suite = suite_of("seen", *changes, "+closed_loop.suites.tried.changed.named_by=[colour]")
    assert {state.scene.scenario.task for state in suite.states(4, trained(only))} == {"red", "blue"}


def test_in_a_world_of_ones_own_bottles_are_named_by_side(tmp_path: Path) -> None:
    suite = suite_of("seen", f"closed_loop.suites.tried.mjcf={write_world(tmp_path)}")
    for state in suite.states(12, trained()):
        assert state.scene.scenario.task is None
        assert state.scene.scenario.side in state.instruction.split()


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("multitask")
    return (
        "dataset=sim_multitask",
        "dataset.generator.num_episodes=24",
        "dataset.generator.image_size=16",
        f"dataset.datasets_dir={folder / 'datasets'}",
        f"dataset.cache_dir={folder / 'cache'}",
        "dataset.num_workers=0",
        "dataset.val_fraction=0.5",
    )


def test_what_was_taught_comes_from_the_files_and_back_from_json(overrides: tuple[str, ...]) -> None:
    data = build_dataset(compose_config([*overrides, "dataset.unseen=['task=red']"])).open()
    world = TrainedScenarios.of(data)
    assert {scenario.task for scenario in world.trained} == TASKS - {"red"}
    assert {scenario.task for scenario in world.held_out} == {"red"}
    assert {episode.fields["task"] for episode in data.episodes.values()} == TASKS
    assert TrainedScenarios.from_description(json.loads(json.dumps(world.described()))) == world


@pytest.fixture(scope="module")
def ran(overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run_in(
        tmp_path_factory.mktemp("run") / "run",
        *overrides,
        *SMALLEST_MODEL,
        *("trainer.steps=2", "trainer.eval_every=2", "trainer.device=cpu", "evaluation.probe_windows=8"),
        *(
            "logger=local",
            "evaluation.shortcuts=false",
            "closed_loop.episodes=6",
            "closed_loop.max_steps=1",
            "closed_loop.videos=0",
        ),
    )


def test_a_run_reports_by_task(ran: Ran) -> None:
    assert ran.exit_code == 0, ran.message
    found = {key for key in ran.summary if "task" in key}
    results = [json.loads(line) for line in (ran.folder / "episode_results.jsonl").read_text().splitlines()]
    expected = {f"val/rmse/task_{task}" for task in TASKS}
    for suite in SUITES:
        tasks = {result["task"] for result in results if result["suite"] == suite}
        expected |= {f"closed_loop/{suite}/success_rate/task_{task}" for task in tasks}
        assert tasks <= TASKS
    assert found == expected
