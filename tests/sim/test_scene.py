"""Laws of scenes: no trace of the side, room to stand, nothing drawn twice."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from drawn_scenarios import scenarios
from hypothesis import given, settings
from hypothesis import strategies as st

from mobile_vla.errors import UserError
from mobile_vla.sim.scene import SIDES, Placement, Scenario, sample_scene
from mobile_vla.streams import Stream

streams = st.builds(Stream, st.integers(0, 2**32), st.just("test"))


@given(scenario=scenarios, stream=streams, position=st.integers(0, 10_000))
@settings(max_examples=100)
def test_what_is_meant_and_how_it_is_named_has_no_part_in_the_draw(
    scenario: Scenario, stream: Stream, position: int
) -> None:
    scene = sample_scene(scenario, stream, position=position)
    for side, named_by in itertools.product(SIDES, ("side", "colour") if scenario.colours else ("side",)):
        other = replace(scenario, side=side, named_by=named_by)
        assert replace(scene, scenario=other) == sample_scene(other, stream, position=position)


@given(scenario=scenarios, stream=streams)
@settings(max_examples=100)
def test_colours_change_the_bottles_and_nothing_else(scenario: Scenario, stream: Stream) -> None:
    one, redblue, bluered = (
        sample_scene(replace(scenario, colours=colours, named_by="side"), stream, position=0)
        for colours in (None, "redblue", "bluered")
    )
    assert one.look.bottle_rgb[0] == one.look.bottle_rgb[1]
    (red, _, low), (dark, _, blue) = redblue.look.bottle_rgb
    assert red > 2 * low
    assert blue > 2 * dark
    assert bluered.look.bottle_rgb == redblue.look.bottle_rgb[::-1]
    for scene in (redblue, bluered):
        look = replace(scene.look, bottle_rgb=one.look.bottle_rgb)
        assert replace(scene, look=look, scenario=one.scenario) == one


@given(scenario=scenarios, stream=streams)
@settings(max_examples=100)
def test_the_robot_fits_at_the_start_and_before_both_bottles(scenario: Scenario, stream: Stream) -> None:
    scene = sample_scene(scenario, stream, position=0)
    for place in (scene.start, scene.goal("left"), scene.goal("right")):
        assert scene.clearance(*place) > 0.1
    assert scene.bottles["left"][1] > 0 > scene.bottles["right"][1]
    assert len(scene.boxes) == scenario.num_boxes


def test_clearance_is_the_gap_to_the_nearest_thing() -> None:
    scenario = Scenario(num_boxes=1, layout="vert", side="left", placement="core", distance="far")
    scene = sample_scene(scenario, Stream(0, "test"), position=0)
    box = scene.boxes[0]
    before_box = box.x - box.half_x - 0.18
    assert scene.clearance(before_box - 0.25, box.y) == pytest.approx(0.25)
    assert scene.clearance(box.x, box.y) < 0
    assert scene.clearance(scene.room.front_x - 0.2, 0.0) == pytest.approx(0.02)
    bottle_x, bottle_y = scene.bottles["right"]
    assert scene.clearance(np.array([bottle_x - 0.3]), np.array([bottle_y])) == pytest.approx([0.03])


def test_scenes_of_other_positions_and_seeds_differ() -> None:
    scenario = Scenario(num_boxes=2, layout="hori", side="left", placement="variant", distance="far")
    scenes = [
        sample_scene(scenario, Stream(seed, "test"), position=position)
        for seed, position in itertools.product(range(3), range(10))
    ]
    assert len({(scene.start, scene.boxes) for scene in scenes}) == len(scenes)
    assert len({scene.look for scene in scenes}) == len(scenes)


def test_ranges_that_leave_no_room_are_refused() -> None:
    blocked = Placement(
        box_x_m=(2.0, 2.1),
        box_shift_m=(0.6, 0.7),
        box_gap_m=(0.6, 0.7),
        bottle_y_m=(0.6, 0.7),
        bottle_jitter_m=(0.0, 0.0),
    )
    scenario = Scenario(num_boxes=1, layout="hori", side="left", placement="core", distance="medium")
    with pytest.raises(UserError, match="1box_hori_left_core_medium: no scene with room"):
        sample_scene(scenario, Stream(0, "test"), position=0, placements={"core": blocked})
