"""Laws of the data set of several tasks: no image tells what is meant, words and names do, all can be driven."""

import collections
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_scenarios import scenarios
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import compose_config

from mobile_vla.augmentation.mirror import mirror_words
from mobile_vla.data.labels.grammars import compile_grammars, parse_name
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.sim.camera import FrontCamera
from mobile_vla.sim.demonstrations.collect import SimEpisodes, record
from mobile_vla.sim.demonstrations.expert import succeeds
from mobile_vla.sim.demonstrations.recording import Demonstration, episode_names
from mobile_vla.sim.environment import BottleEnv
from mobile_vla.sim.instructions import instruction
from mobile_vla.sim.scenarios import ALL_SCENARIOS, SCENARIO_SHARES, shares_of, spread_scenarios
from mobile_vla.sim.scene import Scenario, sample_scene
from mobile_vla.streams import Stream

SHARES = shares_of(["side", "colour"])
GRAMMARS = compile_grammars(compose_config(["dataset=sim_multitask"]).dataset.grammars)
TASKS = {"left", "right", "red", "blue"}
COLOURED = sorted((s for s in ALL_SCENARIOS if s.colours), key=lambda scenario: scenario.name)


@pytest.fixture(scope="module")
def recordings() -> list[Demonstration]:
    return record(num_episodes=120, seed=0, shares=SHARES)


@given(scenario=scenarios)
def test_a_name_is_read_back_as_its_scenario(scenario: Scenario) -> None:
    assert Scenario.parse(scenario.name) == scenario
    assert scenario in ALL_SCENARIOS
    name = episode_names([scenario.name], stream=Stream(0, "test"))[0]
    cell, fields = parse_name(name, GRAMMARS)
    assert cell == f"{scenario.num_boxes}box_{scenario.layout}_{scenario.side}"
    assert (fields.get("task"), fields.get("colours")) == (scenario.task, scenario.colours)
    assert (scenario.task is None) == (scenario.colours is None)


@pytest.mark.parametrize("rest", ["redblue", "redblue_task_blue", "redblue_task_green", "redred_task_left", "task_red"])
def test_a_name_whose_colours_contradict_its_task_is_none(rest: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Scenario.parse(f"1box_hori_left_core_medium_{rest}")


def test_a_colour_names_no_bottle_where_both_have_the_same() -> None:
    with pytest.raises(UserError, match="named_by=colour: both bottles have the same colour"):
        replace(COLOURED[0], named_by="colour", colours=None)


@given(scenario=st.sampled_from(COLOURED), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_no_image_tells_what_is_meant(scenario: Scenario, seed: int) -> None:
    images = set()
    for side, named_by in (("left", "side"), ("right", "side"), ("left", "colour"), ("right", "colour")):
        other = replace(scenario, side=side, named_by=named_by)
        scene = sample_scene(other, Stream(seed, "test"), position=0)
        images.add(FrontCamera(scene, image_size=16).render(scene.start).tobytes())
    assert len(images) == 1


def test_every_task_is_as_common_with_the_red_bottle_on_either_side() -> None:
    counts = collections.Counter((s.colours, s.side, s.named_by) for s in spread_scenarios(500, SHARES))
    for side, named_by in (("left", "side"), ("right", "side"), ("left", "colour"), ("right", "colour")):
        assert abs(counts["redblue", side, named_by] - counts["bluered", side, named_by]) <= 1
    tasks = collections.Counter(scenario.task for scenario in spread_scenarios(500, SHARES))
    assert set(tasks) == TASKS
    assert min(tasks.values()) > 100


def test_sides_alone_are_the_collection_of_one_colour() -> None:
    assert shares_of(["side"]) == SCENARIO_SHARES
    assert {s.task for s in spread_scenarios(300, shares_of(["colour"]))} == {"red", "blue"}


@given(scenario=scenarios, seed=st.integers(0, 99))
def test_an_instruction_names_the_target_and_no_other(scenario: Scenario, seed: int) -> None:
    text = instruction(scenario, np.random.default_rng(seed))
    assert re.findall(r"\b(left|right|red|blue)\b", text) == [scenario.target]
    mirrored = replace(scenario, side={"left": "right", "right": "left"}[scenario.side])
    is_colour = scenario.named_by == "colour"
    assert mirror_words(text) == (text if is_colour else instruction(mirrored, np.random.default_rng(seed)))


def test_every_episode_of_every_task_succeeds(recordings: list[Demonstration]) -> None:
    assert {recording.scene.scenario.task for recording in recordings} == TASKS
    assert len({recording.actions.tobytes() for recording in recordings}) == len(recordings)
    for recording in recordings:
        scenario = recording.scene.scenario
        assert succeeds(recording.scene, recording.actions)
        assert recording.name.endswith(scenario.name)
        assert scenario.target in recording.instruction.split()


def test_the_red_bottle_is_meant_where_red_is_named(recordings: list[Demonstration]) -> None:
    for recording in recordings:
        scene = recording.scene
        left_rgb, right_rgb = scene.look.bottle_rgb
        is_left_red = left_rgb[0] - left_rgb[2] > right_rgb[0] - right_rgb[2]
        red_side = "left" if is_left_red else "right"
        if scene.scenario.task in ("red", "blue"):
            assert (scene.scenario.task == "red") == (scene.scenario.side == red_side)


def test_folders_of_one_task_keep_their_name_and_others_have_their_own(tmp_path: Path) -> None:
    folders = [
        SimEpisodes(num_episodes=2, named_by=named_by, imbalance=1, seed=0, image_size=4, num_workers=1).ensure(
            tmp_path
        )
        for named_by in (["side"], ["side", "colour"], ["colour", "side"], ["colour"])
    ]
    assert folders[0].name == "sim-a2063ab79636"  # what generated it before there were colours
    assert folders[1] == folders[2] != folders[3]
    assert all(folder.name.startswith("sim_multitask-") for folder in folders[1:])


@pytest.mark.parametrize("named_by", [[], ["side", "side"]])
def test_what_a_bottle_is_named_by_is_said_once(named_by: list) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.generator\.named_by=.*expected side, colour, or both, once"):
        SimEpisodes(num_episodes=2, named_by=named_by, imbalance=1, seed=0, image_size=4, num_workers=1)


def test_the_environment_draws_every_task() -> None:
    env = BottleEnv(image_size=4, named_by=["side", "colour"])
    named = set()
    for seed in range(30):
        observation, _ = env.reset(seed=seed)
        named |= TASKS & set(observation["instruction"].split())
        assert env.state.scene.scenario.colours is not None
        assert env.observation_space.contains(observation)
    assert named == TASKS


def test_a_world_of_ones_own_has_no_known_colours(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing is known of the colours"):
        BottleEnv(mjcf=str(tmp_path / "room.xml"), named_by=["colour"])
