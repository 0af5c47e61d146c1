"""The embedded simulator as a Gymnasium environment: observations are image and instruction, actions are commands."""

# pyright: reportAttributeAccessIssue=false
# mujoco's names come from compiled modules without stubs.

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from mobile_vla.errors import UserError
from mobile_vla.sim.camera import FrontCamera
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.sim.instructions import instruction
from mobile_vla.sim.mjcf import load_world
from mobile_vla.sim.scenarios import sample_scenario, shares_of
from mobile_vla.sim.scene import (
    ACTION_NAMES,
    OTHER_SIDE,
    ROBOT_SPEED_M_S,
    STANDING_SPEED_M_S,
    STEP_S,
    STOP_TOLERANCE_M,
    NamedBy,
    Outcome,
    sample_scene,
)
from mobile_vla.sim.world import ROBOT_BODY, ROBOT_JOINTS, build_model
from mobile_vla.streams import Stream

MAX_STEPS = 60
"""The time limit of an episode, 6 s, which is also the limit of a recorded drive."""

STANDING_STEPS = 2
"""The robot has stopped after this many steps of standing; one step between two key pulses is not a stop."""

TURN_SPEED_RAD_S = 1.15

_CHARACTERS = frozenset(string.printable)
_BAD_NUMBERS = [int(mujoco.mjtWarning.__members__[f"mjWARN_BAD{what}"]) for what in ("QPOS", "QVEL", "QACC")]


class BrokenWorldError(UserError):
    """The physics of a world has diverged: a position or a speed is not a finite number."""


class BottleEnv(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """Drive around the boxes and stop before the bottle that the instruction names.

    Observation: ``image`` uint8 [Y, X, 3] of the front camera and ``instruction``. Action: the physical command for
    0.1 s: (linear_x, linear_y) in m/s, and angular_z in rad/s if the world's robot can turn, clipped to the top speed.
    Reward: 1 for success, else 0. The episode ends with ``info["outcome"]``: ``success`` or ``wrong_target`` when the
    robot has stopped within 0.25 m of the place before a bottle; ``collision`` on any contact (``wrong_target`` on
    contact with the other bottle); ``left_room`` outside the room; ``timeout`` after ``max_steps``.

    ``reset(seed=...)`` draws a scene from the distribution of the recorded episodes, with bottles ``named_by`` side,
    colour or both (see ``shares_of``); ``reset(options={"initial_state": ...})`` starts from an ``InitialState``. The
    environment is registered as ``mobile_vla/Bottle-v0`` when this module is imported, which
    ``gymnasium.make("mobile_vla.sim.environment:mobile_vla/Bottle-v0")`` does.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "render_modes": ["rgb_array"],
        "render_fps": round(1 / STEP_S),
    }

    def __init__(
        self,
        *,
        image_size: int = 64,
        max_steps: int = MAX_STEPS,
        mjcf: str | None = None,
        named_by: Sequence[NamedBy] = ("side",),
        render_mode: str | None = None,
    ) -> None:
        if image_size < 1 or max_steps < 1:
            raise UserError(f"image_size={image_size}, max_steps={max_steps}; expected 1 or more")
        if mjcf is not None and "colour" in named_by:
            raise UserError(f"named_by={named_by}: nothing is known of the colours in mjcf={mjcf}; expected side alone")
        self.render_mode = render_mode
        self._shares = shares_of(named_by)
        self._image_size = image_size
        self._max_steps = max_steps
        self._world = None if mjcf is None else load_world(mjcf)
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
                "instruction": spaces.Text(max_length=500, charset=_CHARACTERS),
            }
        )
        can_turn = self._world is not None and self._world.can_turn
        self.action_names = ACTION_NAMES if can_turn else ACTION_NAMES[:2]
        limit = np.array([ROBOT_SPEED_M_S, ROBOT_SPEED_M_S, TURN_SPEED_RAD_S][: len(self.action_names)], np.float32)
        self.action_space = spaces.Box(-limit, limit)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; see the class. The same seed gives the same episode."""
        super().reset(seed=seed)
        if unknown := set(options or {}) - {"initial_state"}:
            raise UserError(f"reset options {', '.join(sorted(unknown))}: unknown; expected initial_state alone")
        given = (options or {}).get("initial_state")
        self.state = self._draw_state() if given is None else given
        self.num_steps = 0
        scene = self.state.scene
        self._model = self._world.model if self._world is not None else build_model(scene)
        self._data = mujoco.MjData(self._model)
        self._camera = FrontCamera(scene, image_size=self._image_size, model=self._model)
        self._robot = self._model.body(ROBOT_BODY).id
        joints = [self._model.joint(name) for name in ROBOT_JOINTS[: len(self.action_names)]]
        self._dofs = np.array([joint.dofadr[0] for joint in joints])
        self._places = np.array([joint.qposadr[0] for joint in joints])
        mujoco.mj_kinematics(self._model, self._data)
        # As an offset: in a user's world the joint positions 0 need not be the origin.
        start = np.array(scene.start) - self.position
        self._data.qpos[self._places[:2]] += start
        mujoco.mj_forward(self._model, self._data)
        self._require_finite()
        self._num_substeps = round(STEP_S / self._model.opt.timestep)
        self._num_standing = 0
        return self._observe(), self._info(None, None)

    def step(self, action: ArrayLike) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Execute the command for 0.1 s.

        Raises ``UserError`` for a command that is not finite, and ``BrokenWorldError`` if the physics diverges.
        """
        command = np.asarray(action, np.float64)
        if command.shape != self.action_space.shape or not np.isfinite(command).all():
            raise UserError(f"action: {action}; expected {len(self.action_names)} finite numbers {self.action_names}")
        before = self.position
        touched = self._move(np.clip(command, self.action_space.low, self.action_space.high))
        self.num_steps += 1
        speed = float(np.hypot(*(self.position - before))) / STEP_S
        self._num_standing = self._num_standing + 1 if speed < STANDING_SPEED_M_S else 0
        outcome = self._outcome(touched)
        terminated = outcome not in (None, "timeout")
        reward = float(outcome == "success")
        return self._observe(), reward, terminated, outcome == "timeout", self._info(outcome, touched)

    def render(self) -> NDArray[np.uint8] | None:
        """Return the front camera's image in the mode ``rgb_array``, else None."""
        return self._observe()["image"] if self.render_mode == "rgb_array" else None

    def _draw_state(self) -> InitialState:
        rng = self.np_random
        scenario = sample_scenario(rng, self._shares)
        stream = Stream(int(rng.integers(2**31)), "environment")
        scene = sample_scene(scenario, stream, position=0)
        if self._world is not None:
            scene = self._world.scene(side=scenario.side, like=scene)
        return InitialState(scene=scene, instruction=instruction(scenario, rng))

    @property
    def position(self) -> NDArray[np.float64]:
        """The robot's position (x, y) in metres."""
        return self._data.xpos[self._robot, :2].copy()

    def _move(self, command: NDArray[np.float64]) -> str | None:
        """Advance 0.1 s and return the first body that the robot touched; its wheels follow commands without delay.

        The first two numbers of a command are relative to the robot's heading if it can turn, else to the world's axes.
        """
        if len(command) == 3:
            heading = self._data.xmat[self._robot].reshape(3, 3)[:2, 0]
            forward, left = command[:2]
            command = np.array([*(forward * heading + left * np.array([-heading[1], heading[0]])), command[2]])
        touched = None
        for _ in range(self._num_substeps):
            place = self._data.qpos[self._places] + command * self._model.opt.timestep
            self._data.qvel[self._dofs] = command
            mujoco.mj_step(self._model, self._data)
            self._require_finite()
            if (touched := self._touched()) is not None:
                break
            # Set the position directly: wheels follow a command exactly, while damping and friction in the physics
            # would slow the robot.
            self._data.qpos[self._places] = place
        mujoco.mj_kinematics(self._model, self._data)
        return touched

    def _require_finite(self) -> None:
        if self._data.warning.number[_BAD_NUMBERS].any() or not np.isfinite(self._data.qpos).all():
            where = self.state.scene.scenario.name if self._world is None else self._world.path
            raise BrokenWorldError(
                f"{where}: after {self.num_steps} steps a position, speed or acceleration is not finite or beyond all "
                f"bounds (positions {self._data.qpos}). Look at the initial state, and in a world of your own at the "
                "masses, joints and time step."
            )

    def _touched(self) -> str | None:
        """Return the name of a body in contact with the robot, other than the ground; None without contact."""
        model, contact = self._model, self._data.contact
        for pair, distance in zip(contact.geom, contact.dist, strict=True):
            bodies = model.geom_bodyid[pair]
            is_robot = model.body_rootid[bodies] == self._robot
            is_ground = model.geom_type[pair] == mujoco.mjtGeom.mjGEOM_PLANE
            if is_robot.sum() == 1 and distance <= 0 and not is_ground.any():
                # The root body, because a bottle may consist of several bodies.
                body = int(model.body_rootid[bodies[~is_robot][0]])
                return model.body(body).name or f"body {body}"
        return None

    def _outcome(self, touched: str | None) -> Outcome | None:
        scene, (x, y) = self.state.scene, self.position
        if touched is not None:
            return "wrong_target" if touched == f"bottle_{OTHER_SIDE[scene.scenario.side]}" else "collision"
        if not (scene.room.back_x <= x <= scene.room.front_x and abs(y) <= scene.room.half_width):
            return "left_room"
        if self._num_standing >= STANDING_STEPS:
            if np.hypot(*(self.position - scene.goal())) <= STOP_TOLERANCE_M:
                return "success"
            if np.hypot(*(self.position - scene.goal(OTHER_SIDE[scene.scenario.side]))) <= STOP_TOLERANCE_M:
                return "wrong_target"
        return "timeout" if self.num_steps >= self._max_steps else None

    def _observe(self) -> dict[str, Any]:
        state = self.state
        shake_rad = np.zeros(3)
        if state.camera_shake_rad:
            shake_rad = state.shake.at(self.num_steps).normal(0, state.camera_shake_rad, 3)
        image = self._camera.render(self._data.qpos, shake_rad=shake_rad)
        return {"image": image, "instruction": state.instruction}

    def _info(self, outcome: Outcome | None, touched: str | None) -> dict[str, Any]:
        return {"position": self.position, "outcome": outcome, "touched": touched}


gymnasium.register(id="mobile_vla/Bottle-v0", entry_point=f"{__name__}:{BottleEnv.__name__}")
