"""Hold all that an episode of the environment begins with: equal ones are equal episodes under equal actions."""

from __future__ import annotations

from dataclasses import dataclass, field

from mobile_vla.sim.scene import Scene
from mobile_vla.streams import Stream


@dataclass(frozen=True, kw_only=True)
class InitialState:
    """One beginning: the scene with the robot's start in it, the instruction, and how the camera is held.

    The camera turns by a normally distributed angle of ``camera_shake_rad`` about each of its axes, anew at every
    frame, drawn from ``shake``.
    """

    scene: Scene
    instruction: str
    camera_shake_rad: float = 0.0
    shake: Stream = field(default=Stream(0, "shake"))
