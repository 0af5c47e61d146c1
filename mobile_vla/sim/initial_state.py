"""The initial state of an episode: the same state and the same actions give the same episode."""

from __future__ import annotations

from dataclasses import dataclass, field

from mobile_vla.sim.scene import Scene
from mobile_vla.streams import Stream


@dataclass(frozen=True, kw_only=True)
class InitialState:
    """The scene with the robot's start, the instruction, and the camera's shake.

    At every frame the camera is turned about each of its axes by an angle drawn from ``shake``: normally distributed
    with the standard deviation ``camera_shake_rad``.
    """

    scene: Scene
    instruction: str
    camera_shake_rad: float = 0.0
    shake: Stream = field(default=Stream(0, "shake"))
