"""Generate the embedded data set: an expert's drives over all scenarios, with frequencies as uneven as in real data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mobile_vla.errors import ConfigError, UserError
from mobile_vla.sim.demonstrations.expert import MAX_FRAMES, MIN_FRAMES, drive, succeeds
from mobile_vla.sim.demonstrations.recording import Demonstration, episode_names, write_recordings
from mobile_vla.sim.instructions import instruction
from mobile_vla.sim.scenarios import NUM_SCENARIOS, SCENARIO_SHARES, Shares, imbalanced, shares_of, spread_scenarios
from mobile_vla.sim.scene import NamedBy, Scene, sample_scene
from mobile_vla.storage.build_once import build_once
from mobile_vla.streams import Stream

GENERATOR_VERSION = 4
"""Increase it whenever the same settings give other bytes: it is part of every data set's folder name."""

_MAX_DRIVES = 50

_LEAST_EPISODES = 2

_MAX_EPISODES, _MAX_IMAGE_SIZE_PX = 1_000_000, 1024
"""A hundred times the largest known use; a config from elsewhere may ask for more memory than a machine has."""


@dataclass(frozen=True, kw_only=True)
class SimEpisodes:
    """The settings of the data sets ``sim`` and ``sim_multitask``, which determine content and folder.

    ``named_by``: how instructions name the bottle. If it contains ``colour``, bottles are red and blue; see
    ``shares_of``. ``imbalance``: see ``imbalanced``; if it is not 1, every scenario has at least 2 episodes.
    ``image_size`` in pixels (square). ``num_workers`` processes render (see ``num_processes``); the bytes do not
    depend on it.
    """

    num_episodes: int
    named_by: Sequence[NamedBy]
    imbalance: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    seed: int
    image_size: int
    num_workers: int | None

    def __post_init__(self) -> None:
        check_sizes(num_episodes=self.num_episodes, image_size=self.image_size)
        if not self.named_by or len(set(self.named_by)) < len(self.named_by):
            raise ConfigError(f"dataset.generator.named_by={list(self.named_by)}; expected side, colour, or both, once")
        least = NUM_SCENARIOS * _LEAST_EPISODES
        if self.imbalance != 1 and self.num_episodes < least:
            raise ConfigError(
                f"dataset.generator.num_episodes={self.num_episodes}: with imbalance={self.imbalance:g} each of "
                f"{NUM_SCENARIOS} scenarios has {_LEAST_EPISODES} episodes or more; expected {least} or more, or "
                "imbalance=1"
            )

    def ensure(self, root: Path) -> Path:
        """Return the folder of episode files in ``root``; generate it first if it does not exist."""
        settings: dict[str, Any] = {
            "num_episodes": self.num_episodes,
            "seed": self.seed,
            "image_size": self.image_size,
        }
        # A default is left out, so that the option does not rename the folders of data sets that do not use it.
        if self.imbalance != 1:
            settings["imbalance"] = float(self.imbalance)
        if "colour" not in self.named_by:
            return build_once(dataset_folder(root, "sim", settings), self._generate)
        settings["named_by"] = sorted(self.named_by)
        return build_once(dataset_folder(root, "sim_multitask", settings), self._generate)

    def _generate(self, folder: Path) -> None:
        recordings = record(
            num_episodes=self.num_episodes,
            seed=self.seed,
            shares=imbalanced(shares_of(self.named_by), self.imbalance),
            at_least=0 if self.imbalance == 1 else _LEAST_EPISODES,
        )
        write_recordings(recordings, folder, image_size=self.image_size, num_workers=self.num_workers)


def check_sizes(*, num_episodes: int, image_size: int) -> None:
    """Raise ``ConfigError`` that names every size of a generator that is below 1 or above its limit."""
    limits = {"the number of episodes": (num_episodes, _MAX_EPISODES), "image_size": (image_size, _MAX_IMAGE_SIZE_PX)}
    wrong = [
        f"{name} is {value}, not 1 to {most:,}" for name, (value, most) in limits.items() if not 1 <= value <= most
    ]
    if wrong:
        raise ConfigError(f"dataset.generator: {'; '.join(wrong)}")


def dataset_folder(root: Path, name: str, settings: Mapping[str, Any]) -> Path:
    """Return ``root/<name>-<key>``, the key being a hash of the settings and of the generator's version."""
    content = json.dumps({"version": GENERATOR_VERSION, **settings}, sort_keys=True)
    return root / f"{name}-{hashlib.blake2b(content.encode(), digest_size=6).hexdigest()}"


def record(*, num_episodes: int, seed: int, shares: Shares = SCENARIO_SHARES, at_least: int = 0) -> list[Demonstration]:
    """Return the drives of a data set, with the scenarios of ``spread_scenarios``; no two have the same actions.

    A pure function of its arguments. Raises ``UserError`` if a scenario cannot be driven.
    """
    stream = Stream(seed, "sim")
    spread = spread_scenarios(num_episodes, shares, at_least=at_least)
    scenarios = [spread[place] for place in stream.child("order").at(0).permutation(num_episodes)]
    names = episode_names([scenario.name for scenario in scenarios], stream=stream.child("names"))
    recordings: list[Demonstration] = []
    driven: set[bytes] = set()
    for index, (scenario, name) in enumerate(zip(scenarios, names, strict=True)):
        scene = sample_scene(scenario, stream.child("scene"), position=index)
        actions = _drive_anew(scene, stream.child("drive"), index, driven)
        driven.add(actions.tobytes())
        text = instruction(scenario, stream.child("instruction").at(index))
        recordings.append(Demonstration(name=name, scene=scene, actions=actions, instruction=text))
    return recordings


def _drive_anew(scene: Scene, stream: Stream, position: int, driven: set[bytes]) -> NDArray[np.float32]:
    """Return the first successful drive of allowed length whose actions are not among ``driven``.

    Equal action sequences in train and validation split would let a policy score well by recall alone.
    """
    for attempt in range(_MAX_DRIVES):
        actions = drive(scene, stream.child(str(attempt)).at(position))
        has_length = MIN_FRAMES <= len(actions) <= MAX_FRAMES
        if has_length and succeeds(scene, actions) and actions.tobytes() not in driven:
            return actions
    raise UserError(
        f"scenario {scene.scenario.name}: no new successful drive of {MIN_FRAMES} to {MAX_FRAMES} frames in "
        f"{_MAX_DRIVES} tries; ask for fewer episodes (num_episodes)"
    )
