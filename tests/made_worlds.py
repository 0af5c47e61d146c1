"""Write small MJCF worlds as a user would: a crate that can be pushed, a turned shelf, a ball, two bottles, a robot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from made_drives import commands, made_scene

from mobile_vla.sim.environment import BottleEnv
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.sim.mjcf import load_world
from mobile_vla.sim.scene import Scene

SLIDES = '<joint name="robot_x" type="slide" axis="1 0 0"/><joint name="robot_y" type="slide" axis="0 1 0"/>'
YAW = '<joint name="robot_yaw" type="hinge" axis="0 0 1"/>'
ROBOT_GEOM = '<geom type="cylinder" size=".18 .1" pos="0 0 .14"/>'
CRATE_PLACE = 'pos="1 0 0.1"'

_WORLD = f"""<mujoco>
<option timestep="0.01"/>
<worldbody>
  <geom name="floor" type="plane" size="0 0 1"/>
  <body name="crate" {CRATE_PLACE}><freejoint/><geom type="box" size=".15 .15 .1" mass="1" rgba=".6 .5 .3 1"/></body>
  <body name="shelf" pos="1.7 1.2 0.2" euler="0 0 30"><geom type="box" size=".2 .1 .2" rgba=".2 .3 .8 1"/></body>
  <body pos="1.2 -.9 0.15"><geom type="sphere" size=".15" rgba=".2 .3 .8 1"/></body>
  <body name="bottle_left" pos="2.4 .7 0"><geom type="cylinder" size=".09 .2" pos="0 0 .2" rgba="1 0 0 1"/></body>
  <body name="bottle_right" pos="2.4 -.7 0"><geom type="cylinder" size=".09 .2" pos="0 0 .2" rgba="0 1 0 1"/></body>
  <body name="robot" pos="0 0 0">
    {SLIDES}
    {ROBOT_GEOM}
    <site name="front_camera" pos="0 0 .35"/>
  </body>
</worldbody>
</mujoco>
"""


def write_world(folder: Path, *changes: tuple[str, str]) -> str:
    """Write the world into ``folder``, each of ``changes`` replacing a text in it by another; return its path."""
    text = _WORLD
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "world.xml"
    path.write_text(text)
    return str(path)


def own_scene(path: str, *, side: str = "left", start: tuple[float, float] = (0, 0)) -> Scene:
    """Return the world of a file as a scene; the robot starts at the offset ``start`` from where the file puts it."""
    return load_world(path).scene(side=side, like=replace(made_scene(), start=start))


def begin(path: str, *, side: str = "left", start: tuple[float, float] = (0, 0), image_size: int = 4) -> BottleEnv:
    """Return the environment of a file, an episode begun in it."""
    env = BottleEnv(image_size=image_size, mjcf=path)
    scene = own_scene(path, side=side, start=start)
    env.reset(options={"initial_state": InitialState(scene=scene, instruction=f"Go to the {side} bottle")})
    return env


def play(env: BottleEnv, keys: str) -> dict[str, Any]:
    """Hold ``keys`` until the episode ends; return the last info."""
    info: dict[str, Any] = {}
    for command in commands(keys)[:, : len(env.action_names)]:
        *_, info = env.step(command)
        if info["outcome"] is not None:
            break
    return info
