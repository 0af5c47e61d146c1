"""A policy without a model whose answer depends on every frame that its robot has shown since its last reset."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.frames import ImageOptions
from mobile_vla.policy.description import PolicyDescription
from mobile_vla.spec import Camera, Spec, known_signal

DESCRIPTION = PolicyDescription(
    model={"_target_": "somewhere.Secret"},
    spec=Spec(
        actions=(known_signal("linear_x"), known_signal("angular_z")),
        cameras=(Camera(name="camera", rows=4, columns=6),),
    ),
    window_size=8,
    fwd_pred_next_n=3,
    padding="both",
    image=ImageOptions(size=(16, 16), resize="direct", channel_order="rgb"),
    instructions=("go",),
    world=None,
)


def made_image(value: int, *, rows: int = 4, columns: int = 6) -> NDArray[np.uint8]:
    """Return an image of one grey value."""
    return np.full((rows, columns, 3), value, np.uint8)


class CountingPolicy:
    """Answer with a running hash of the robot's frames and their number; ``pause_s`` lets calls meet if they can."""

    description = DESCRIPTION

    def __init__(self, *, pause_s: float = 0.0) -> None:
        self.seen: dict[Hashable, list[int]] = {}
        self.is_busy = False
        self._pause_s = pause_s

    def reset(self, robots: Sequence[Hashable]) -> None:
        assert not self.is_busy, "two calls at once"
        for robot in robots:
            self.seen.pop(robot, None)

    def act(
        self,
        image: Mapping[str, NDArray[np.uint8]],
        instruction: str,
        *,
        state: NDArray[np.float32] | None,
        robots: Sequence[Hashable],
    ) -> NDArray[np.float32]:
        assert not self.is_busy, "two calls at once"
        self.is_busy = True
        try:
            if instruction == "break":
                raise RuntimeError("the wheels came off")
            (robot,) = robots
            frames = [*self.seen.get(robot, []), int(image["camera"][0, 0, 0])]
            time.sleep(self._pause_s)
            self.seen[robot] = frames
        finally:
            self.is_busy = False
        return expected_actions(frames, instruction)


def expected_actions(frames: Sequence[int], instruction: str) -> NDArray[np.float32]:
    """Return what ``CountingPolicy`` answers to the last of ``frames``: [3, 2]."""
    mixed = len(instruction)
    for frame in frames:
        mixed = (31 * mixed + frame) % 9973
    return np.array([[mixed, len(frames)]] * 3, np.float32)
