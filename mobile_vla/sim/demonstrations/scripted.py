"""Generate the report's data: 18 frames per episode and one fixed action script per side, so images are not needed.

Over 250 + 250 episodes linear_x has mean 1.0222 and std 0.3614, and linear_y has mean -0.0319 and std 0.8777. These
are the figures of the real collection of 500 episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobile_vla.sim.demonstrations.collect import check_sizes, dataset_folder
from mobile_vla.sim.demonstrations.expert import to_actions
from mobile_vla.sim.demonstrations.recording import Demonstration, episode_names, write_recordings
from mobile_vla.sim.instructions import instruction
from mobile_vla.sim.scene import Placement, Scenario, sample_scene
from mobile_vla.storage.build_once import build_once
from mobile_vla.streams import Stream

_STAND, _AHEAD, _LEFT, _RIGHT = (0, 0), (1, 0), (1, 1), (1, -1)

SCRIPTS: Mapping[str, list[tuple[int, int]]] = {
    "left": [_STAND, *[_LEFT] * 7, *[_AHEAD] * 4, *[_RIGHT] * 2, _LEFT, *[_AHEAD] * 2, _STAND],
    "right": [_STAND, *[_RIGHT] * 8, *[_AHEAD] * 3, *[_LEFT] * 2, _RIGHT, *[_AHEAD] * 2, _STAND],
}
"""Signs of (linear_x, linear_y) for each of the 18 frames."""

SCRIPTED_PLACEMENTS: Mapping[str, Placement] = {
    "core": Placement(
        start_x_m=(0.02, 0.10),
        start_y_m=(-0.03, 0.03),
        box_x_m=(0.90, 0.98),
        box_shift_m=(0.0, 0.02),
        box_gap_m=(0.0, 0.0),
        bottle_y_m=(0.70, 0.80),
        bottle_jitter_m=(-0.15, -0.05),
    )
}
"""Placements that vary a little, but so little that both scripts still reach the goal without contact."""


@dataclass(frozen=True, kw_only=True)
class ScriptedEpisodes:
    """The data set ``sim_scripted``: ``num_left`` + ``num_right`` episodes that differ mainly in appearance.

    ``image_size`` in pixels (square). ``num_workers`` processes render (see ``num_processes``); the bytes do not
    depend on it.
    """

    num_left: int
    num_right: int
    seed: int
    image_size: int
    num_workers: int | None

    def __post_init__(self) -> None:
        check_sizes(num_episodes=self.num_left + self.num_right, image_size=self.image_size)

    def ensure(self, root: Path) -> Path:
        """Return the folder of episode files in ``root``; generate it first if it does not exist."""
        settings = {
            "num_left": self.num_left,
            "num_right": self.num_right,
            "seed": self.seed,
            "image_size": self.image_size,
        }
        return build_once(dataset_folder(root, "sim_scripted", settings), self._generate)

    def _generate(self, folder: Path) -> None:
        recordings = record_scripted(num_left=self.num_left, num_right=self.num_right, seed=self.seed)
        write_recordings(recordings, folder, image_size=self.image_size, num_workers=self.num_workers)


def record_scripted(*, num_left: int, num_right: int, seed: int) -> list[Demonstration]:
    """Return the scripted episodes in a shuffled order; a pure function of its arguments."""
    stream = Stream(seed, "sim_scripted")
    sides = stream.child("order").at(0).permutation(["left"] * num_left + ["right"] * num_right)
    scenarios = [
        Scenario(num_boxes=1, layout="hori", side=str(side), placement="core", distance="medium") for side in sides
    ]
    names = episode_names([scenario.name for scenario in scenarios], stream=stream.child("names"))
    return [
        Demonstration(
            name=name,
            scene=sample_scene(scenario, stream.child("scene"), position=index, placements=SCRIPTED_PLACEMENTS),
            actions=to_actions(SCRIPTS[scenario.side]),
            instruction=instruction(scenario, stream.child("instruction").at(index)),
        )
        for index, (scenario, name) in enumerate(zip(scenarios, names, strict=True))
    ]
