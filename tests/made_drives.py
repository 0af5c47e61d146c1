"""Drive made worlds by hand: a scene without chance, scripts of keys, and the drives that come of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from mobile_vla.closed_loop.execution import FirstActions
from mobile_vla.closed_loop.rollout import Drive, roll_out
from mobile_vla.sim.environment import BottleEnv
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.sim.scene import OTHER_SIDE, Box, Room, Scenario, Scene, sample_scene
from mobile_vla.streams import Stream

SPEED_M_S = 1.15

KEYS = {
    ".": (0, 0),
    "w": (1, 0),
    "s": (-1, 0),
    "a": (0, 1),
    "d": (0, -1),
    "q": (1, 1),
    "e": (1, -1),
    "z": (-1, 1),
    "c": (-1, -1),
}
"""Signs of (forward, left) that a key holds for 0.1 s: 0.115 m."""

MIRRORED_KEYS = str.maketrans("adqezc", "daeqcz")

make_small_env = partial(BottleEnv, image_size=4)

AT_ONCE = FirstActions(count=1)


def made_scene(*, side: str = "left", bottle_y_m: float = 0.7) -> Scene:
    """Return a room with one box 0.78 to 1.02 m ahead, 0.56 m wide, and bottles 2.6 m ahead; the robot is at (0, 0)."""
    scenario = Scenario(num_boxes=1, layout="hori", side=side, placement="core", distance="medium")
    return replace(
        sample_scene(scenario, Stream(5, "made"), position=0),
        start=(0.0, 0.0),
        boxes=(Box(x=0.9, y=0.0, half_x=0.12, half_y=0.28, height=0.2),),
        bottles={"left": (2.6, bottle_y_m), "right": (2.6, -bottle_y_m)},
        room=Room(front_x=3.6, back_x=-1.0, half_width=1.8, wall_height=1.0),
    )


def state_of(scene: Scene, *, camera_shake_rad: float = 0.0) -> InitialState:
    """Return the beginning of an episode in ``scene``."""
    instruction = f"Go to the {scene.scenario.side} bottle"
    return InitialState(scene=scene, instruction=instruction, camera_shake_rad=camera_shake_rad)


def mirrored_scene(scene: Scene) -> Scene:
    """Return ``scene`` with left and right exchanged, the meaning of the instruction included."""
    (left_x, left_y), (right_x, right_y) = scene.bottles["left"], scene.bottles["right"]
    return replace(
        scene,
        scenario=replace(scene.scenario, side=OTHER_SIDE[scene.scenario.side]),
        start=(scene.start[0], -scene.start[1]),
        boxes=tuple(replace(box, y=-box.y) for box in scene.boxes),
        bottles={"left": (right_x, -right_y), "right": (left_x, -left_y)},
    )


def commands(keys: str) -> np.ndarray:
    """Return the commands [F, 3] in physical units of a script of KEYS."""
    held = [(*KEYS[key], 0) for key in keys]
    return np.array(held, np.float32).reshape(-1, 3) * np.float32(SPEED_M_S)


class Script:
    """A driver whose robot i holds ``keys[i]``, then stands; ``num_calls`` counts how often each robot was asked."""

    action_names = ("linear_x", "linear_y", "angular_z")
    fwd_pred_next_n = 1

    def __init__(self, *keys: str) -> None:
        self._commands = [commands(one) for one in keys]
        self.reset()

    def reset(self) -> None:
        self.num_calls = [0] * len(self._commands)

    def act(self, image: np.ndarray, instruction: Sequence[str], *, robots: Sequence[Hashable]) -> np.ndarray:
        chunks = np.zeros((len(robots), 1, 3), np.float32)
        for row, robot in enumerate(robots):
            assert isinstance(robot, int)
            if self.num_calls[robot] < len(self._commands[robot]):
                chunks[row, 0] = self._commands[robot][self.num_calls[robot]]
            self.num_calls[robot] += 1
        return chunks


def drive_keys(keys: str, scene: Scene | None = None) -> Drive:
    """Return the drive that holds ``keys`` in ``scene`` (by default ``made_scene``) and then stands until it ends."""
    state = state_of(made_scene() if scene is None else scene)
    return roll_out(Script(keys), [state], execution=AT_ONCE, make_env=make_small_env)[0]
