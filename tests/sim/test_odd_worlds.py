"""Laws of odd and broken MJCF worlds: they are refused in words, or else the robot obeys in them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_worlds import CRATE_PLACE, ROBOT_GEOM, SLIDES, YAW, begin, own_scene, play, write_world

from mobile_vla.errors import UserError
from mobile_vla.sim.environment import BrokenWorldError
from mobile_vla.sim.mjcf import load_world

ODD_WORLDS = {
    "the robot is below another body": (
        ('<body name="robot" pos="0 0 0">', '<body name="base"><body name="robot" pos="0 0 0">'),
        ("</body>\n</worldbody>", "</body></body></worldbody>"),
    ),
    "it turns before it slides": ((SLIDES, YAW + SLIDES),),
    "its slides are exchanged": (
        (SLIDES, SLIDES.replace("1 0 0", "9").replace("0 1 0", "1 0 0").replace("9", "0 1 0")),
    ),
    "its slide points back": ((SLIDES, SLIDES.replace("1 0 0", "-1 0 0")),),
    "robot_x is a hinge": ((SLIDES, SLIDES.replace('slide" axis="1 0 0', 'hinge" axis="0 0 1')),),
    "robot_x is the crate's": (
        (SLIDES, SLIDES.replace('name="robot_x" ', "")),
        ("<freejoint/>", '<freejoint name="robot_x"/>'),
    ),
    "the camera hangs in the room": (
        ('<site name="front_camera" pos="0 0 .35"/>\n  </body>', '</body><site name="front_camera" pos="0 0 .35"/>'),
    ),
    "the time step does not divide 0.1 s": (('timestep="0.01"', 'timestep="0.03"'),),
    "the time step is longer than 0.1 s": (('timestep="0.01"', 'timestep="0.2"'),),
    "the robot rubs the floor": ((ROBOT_GEOM, ROBOT_GEOM.replace("0 0 .14", "0 0 .095")),),
    "its joints are damped": ((SLIDES, SLIDES.replace(" axis", ' damping="50" axis')),),
}


@pytest.mark.parametrize("changes", ODD_WORLDS.values(), ids=ODD_WORLDS)
def test_an_odd_world_is_refused_or_obeys_and_sees_what_it_hits(tmp_path: Path, changes: tuple) -> None:
    path = write_world(tmp_path, *changes)
    try:
        world = load_world(path)
    except UserError:
        return
    env = begin(path, image_size=16)
    assert len(own_scene(path).boxes) == 3, "the robot is not in its own way"
    if world.can_turn:
        for _ in range(10):
            env.step([0, 0, 1])
        before = env.position
        env.step([0.5, 0, 0])
        assert env.position - before == pytest.approx([0.05 * np.cos(1), 0.05 * np.sin(1)], abs=2e-4)
        return
    first, _ = env.reset(options={"initial_state": env.state})
    for _ in range(3):
        later, *_ = env.step([0.5, 0.3])
    assert env.position == pytest.approx([0.15, 0.09], abs=2e-4)
    assert not np.array_equal(first["image"], later["image"])
    assert play(env, "w" * 20)["touched"] == "crate"


BROKEN_WORLDS = {
    "a spring that explodes": ("<freejoint/>", '<joint type="slide" axis="0 0 1" stiffness="-1e9"/>'),
    "an explosive robot": ('axis="1 0 0"', 'axis="1 0 0" stiffness="-1e14"'),
    "gravity beyond all bounds": ("<worldbody>", '<option gravity="0 0 -1e12"/><worldbody>'),
    "a gravity that is no number": ("<worldbody>", '<option gravity="0 0 nan"/><worldbody>'),
    "a crate that is nowhere": (CRATE_PLACE, 'pos="nan 0 .1"'),
    "a crate at the end of the world": (CRATE_PLACE, 'pos="inf 0 .1"'),
    "a crate beyond all bounds": (CRATE_PLACE, 'pos="1 0 1e12"'),
    "a bottle that is nowhere": ('pos="2.4 .7 0"', 'pos="nan .7 0"'),
    "a bottle on another planet": ('pos="2.4 .7 0"', 'pos="1e6 .7 0"'),
    "a robot that is nowhere": ('name="robot" pos="0 0 0"', 'name="robot" pos="0 nan 0"'),
}


@pytest.mark.parametrize("change", BROKEN_WORLDS.values(), ids=BROKEN_WORLDS)
def test_a_broken_world_is_an_error_in_words_and_leaves_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_world(tmp_path, change)
    with pytest.raises(UserError, match=r"world"):
        play(begin(path, start=(0.1, 0.1)), "." * 60)
    assert os.listdir() == ["world.xml"]


def test_physics_that_break_are_named_with_file_and_step(tmp_path: Path) -> None:
    slow = '<joint type="slide" axis="0 1 0" springref=".001" stiffness="-1e3"/>'
    env = begin(write_world(tmp_path, ("<freejoint/>", slow)))
    with pytest.raises(BrokenWorldError, match=r"world\.xml: after [1-9]\d* steps a position"):
        play(env, "." * 60)


def test_a_world_whose_bottles_cannot_be_touched_is_refused_in_words_or_driven(tmp_path: Path) -> None:
    changes = [(f'type="{kind}"', f'type="{kind}" contype="0" conaffinity="0"') for kind in ("box", "sphere")]
    path = write_world(
        tmp_path, *changes, ('type="cylinder" size=".09', 'contype="0" conaffinity="0" type="cylinder" size=".09')
    )
    try:
        env = begin(path)
    except UserError:
        return
    assert play(env, "a" * 6 + "w" * 17 + "..")["outcome"] == "success"


def test_loading_alone_leaves_no_log_either(tmp_path: Path) -> None:
    path = write_world(tmp_path, ("<worldbody>", '<option gravity="0 0 nan"/><worldbody>'))
    script = f"from mobile_vla.sim.mjcf import load_world; load_world({path!r})"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False, capture_output=True)
    assert os.listdir(tmp_path) == ["world.xml"]
