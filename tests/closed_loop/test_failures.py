"""Laws of the failure types: each has drives that get it and nothing else, and left is to right as right is to left."""

from dataclasses import replace

import numpy as np
import pytest
from made_drives import MIRRORED_KEYS, drive_keys, made_scene, mirrored_scene

from mobile_vla.closed_loop.failures import FAILURES, failure_of, goal_distance_m
from mobile_vla.sim.scene import Scene, sample_scene
from mobile_vla.streams import Stream

TO_GOAL = "aaaaaa" + "w" * 18
PAST_THE_OTHER_SIDE = "dddddd" + "w" * 14

MADE = {
    "stops before the other bottle": ("left_right_confusion", "dddddd" + "w" * 18),
    "hits the other bottle": ("left_right_confusion", "dddddd" + "w" * 27),
    "passes the box on the other side and hits the wall there": (
        "left_right_confusion",
        PAST_THE_OTHER_SIDE + "d" * 20,
    ),
    "waits near the other bottle": ("left_right_confusion", PAST_THE_OTHER_SIDE),
    "hits its own bottle": ("overshoot", "aaaaaa" + "w" * 30),
    "drives on past its place": ("overshoot", "aaaaaaaaa" + "w" * 24),
    "drives on past its place aside": ("overshoot", TO_GOAL + "a" * 20),
    "drives past its place aside, far from it": ("overshoot", "q" * 4 + "a" * 20),
    "comes to its place and leaves again": ("missed_stop", TO_GOAL + "s" * 10),
    "comes to its place and hits the wall behind it": ("missed_stop", TO_GOAL + "s" * 30),
    "never moves": ("false_stop", ""),
    "stops short of its place": ("false_stop", "aaaaaa" + "w" * 14),
    "stops before the box": ("false_stop", "wwww"),
    "drives into the box": ("straight_only", "w" * 20),
    "drives into the box, a little to the side": ("straight_only", "q" + "w" * 20),
    "dances on the spot": ("oscillation", "ad" * 30),
    "sways in wide swings": ("oscillation", "aaaadddd" * 8),
    "turns aside and still hits the box": ("late_turn", "www" + "q" * 8),
    "turns aside early, but too little": ("late_turn", "aaa" + "w" * 20),
    "cuts the corner behind the box's front": ("other", "aaaaa" + "w" * 8 + "d" * 5),
}


@pytest.mark.parametrize(("failure", "keys"), MADE.values(), ids=MADE)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_made_failure_has_its_name_on_either_side(failure: str, keys: str, side: str) -> None:
    if side == "left":
        drive = drive_keys(keys)
    else:
        drive = drive_keys(keys.translate(MIRRORED_KEYS), mirrored_scene(made_scene()))
    assert drive.state.scene.scenario.side == side
    assert drive.outcome != "success"
    assert failure_of(drive) == failure


def test_every_type_is_made_here() -> None:
    assert {failure for failure, _ in MADE.values()} == set(FAILURES)


@pytest.mark.parametrize("keys", [TO_GOAL, "." * 20 + TO_GOAL, "adadad" + TO_GOAL])
def test_a_success_is_no_failure_however_it_came(keys: str) -> None:
    drive = drive_keys(keys)
    assert drive.outcome == "success"
    assert failure_of(drive) is None


@pytest.mark.parametrize("bottle_y_m", [0.45, 0.62, 0.85, 1.0])
def test_driving_straight_on_has_one_name_wherever_the_bottles_stand(bottle_y_m: float) -> None:
    scene = made_scene(bottle_y_m=bottle_y_m)
    assert failure_of(drive_keys("w" * 60, scene)) == "straight_only"
    beside = replace(scene.boxes[0], y=-0.6)
    drive = drive_keys("w" * 60, replace(scene, boxes=(beside,)))
    assert drive.touched == "walls"
    assert failure_of(drive) == "straight_only"


@pytest.mark.parametrize("keys", ["s" * 20, "ssss"])
def test_driving_back_is_not_driving_ahead(keys: str) -> None:
    assert failure_of(drive_keys(keys)) != "straight_only"


def test_any_drive_mirrored_fails_alike() -> None:
    rng = np.random.default_rng(0)
    failures = []
    for position in range(40):
        pulses = [(str(rng.choice(list("wwwwqqeeadszc."))), int(rng.integers(1, 5))) for _ in range(14)]
        keys = "".join(key * num_steps for key, num_steps in pulses)
        scene = _sampled(position)
        drive, other = drive_keys(keys, scene), drive_keys(keys.translate(MIRRORED_KEYS), mirrored_scene(scene))
        assert drive.outcome == other.outcome
        assert drive.position == pytest.approx(other.position * [1, -1], abs=1e-9)
        failures.append(failure_of(drive))
        assert failures[-1] == failure_of(other)
    assert len(set(failures)) >= 5


def test_distances_are_to_the_place_before_the_bottle() -> None:
    drive = drive_keys(TO_GOAL)
    x, y = drive.state.scene.bottles["left"]
    assert goal_distance_m(drive)[0] == pytest.approx(np.hypot(x - 0.5, y))
    assert goal_distance_m(drive)[-1] == pytest.approx(np.hypot(x - 0.5 - 18 * 0.115, y - 6 * 0.115), abs=1e-6)
    assert goal_distance_m(drive, "right")[0] == pytest.approx(np.hypot(x - 0.5, y))
    assert len(goal_distance_m(drive)) == len(drive.position)


def _sampled(position: int) -> Scene:
    side = ("left", "right")[position % 2]
    scenario = replace(made_scene().scenario, side=side, num_boxes=1 + position // 2 % 2)
    return sample_scene(scenario, Stream(2, "test"), position=position)
