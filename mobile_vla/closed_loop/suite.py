"""Draw the initial states of a suite: the same scenes for every policy, and none of them recorded for training."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import NonNegativeFloat, NonNegativeInt

from mobile_vla.closed_loop.trained_scenarios import TrainedScenarios
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.sim.appearance import RECORDED_APPEARANCES, AppearanceRanges
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.sim.instructions import instruction
from mobile_vla.sim.scene import (
    BOTTLE_COLOURS,
    BOTTLE_X_M,
    BOX_HALF_SIZE_M,
    PLACEMENTS,
    SIDES,
    NamedBy,
    Placement,
    Scenario,
    sample_scene,
)
from mobile_vla.streams import Stream

if TYPE_CHECKING:
    from mobile_vla.sim.mjcf import OwnWorld

_MAX_DISTANCE_M = 100.0


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The definition of a suite's initial states; see conf/closed_loop/suite/seen.yaml for each option.

    The scenarios are those of the training episodes, with the fields in ``changed`` replaced by the values listed there
    (all combinations). ``with_held_out`` adds those that the data set held out of training. State i of a suite depends
    only on these options and the scenarios, not on the number of states.
    """

    seed: NonNegativeInt
    with_held_out: bool
    changed: Mapping[str, Sequence[str | int]]
    distances_m: Mapping[str, float]
    placements: Mapping[str, Placement]
    looks: AppearanceRanges | None
    camera_shake_rad: NonNegativeFloat
    mjcf: str | None

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.mjcf is not None:
            _world(self.mjcf)  # for its errors alone, which should come before the training
        if odd := [name for name in (*self.placements, *self.distances_m) if not name.isalnum()]:
            raise ConfigError(f"suite: {odd[0]!r} names a placement or distance; expected letters and digits alone")
        if self.mjcf is not None and (self.placements or self.distances_m or set(self.changed) - {"side"}):
            raise ConfigError(
                f"suite: mjcf={self.mjcf} says where everything stands, so placements, distances_m and changed fields "
                "other than side have no effect; leave them out"
            )
        self._check_changed()

    def _check_numbers(self) -> None:
        if self.looks is not None and not isinstance(self.looks, AppearanceRanges):
            raise ConfigError(
                f"suite: looks={self.looks}: expected ranges of {AppearanceRanges.__name__}, as in "
                "conf/closed_loop/suite/looks.yaml, with its _target_"
            )
        for name, distance in self.distances_m.items():
            if not 0 < distance <= _MAX_DISTANCE_M:
                raise ConfigError(f"suite: distances_m.{name}={distance}; expected up to {_MAX_DISTANCE_M:g} m")
        if not self.camera_shake_rad <= math.pi:
            raise ConfigError(f"suite: camera_shake_rad={self.camera_shake_rad}; expected 0 to pi rad")

    def _check_changed(self) -> None:
        known: dict[str, Collection[str | int]] = {
            "num_boxes": range(1, 10),
            "layout": BOX_HALF_SIZE_M.keys(),
            "side": SIDES,
            "placement": PLACEMENTS.keys() | self.placements.keys(),
            "distance": BOTTLE_X_M.keys() | self.distances_m.keys(),
            "colours": BOTTLE_COLOURS,
            "named_by": get_args(NamedBy),
        }
        for field, values in self.changed.items():
            if field not in known:
                raise ConfigError(f"suite: changed.{field}: no such field; expected one of {', '.join(known)}")
            if not values or any(value not in known[field] for value in values):
                raise ConfigError(
                    f"suite: changed.{field}: {list(values)}; expected one or more of "
                    f"{', '.join(map(str, sorted(known[field])))} (placements and distances_m add new ones)"
                )

    def states(self, count: int, trained: TrainedScenarios) -> list[InitialState]:
        """Return the first ``count`` initial states; scenarios take turns, each once per turn in a random order.

        Raises ``UserError`` if the ranges leave no room for a scene.
        """
        scenarios = self._scenarios(trained)
        stream = Stream(self.seed, "suite")
        world = None if self.mjcf is None else _world(self.mjcf)
        states = []
        for index in range(count):
            # Another order in every turn, so that any number of first states contains scenarios about equally often.
            turn, place = divmod(index, len(scenarios))
            scenario = scenarios[stream.child("order").at(turn).permutation(len(scenarios))[place]]
            scene = sample_scene(
                scenario,
                stream.child("scene"),
                position=index,
                placements={**PLACEMENTS, **self.placements},
                distances_m={**BOTTLE_X_M, **self.distances_m},
                looks=self.looks or RECORDED_APPEARANCES,
            )
            if world is not None:
                scene = world.scene(side=scenario.side, like=scene)
            states.append(
                InitialState(
                    scene=scene,
                    instruction=instruction(scene.scenario, stream.child("instruction").at(index)),
                    camera_shake_rad=self.camera_shake_rad,
                    shake=stream.child(f"shake/{index}"),
                )
            )
        return states

    def _scenarios(self, trained: TrainedScenarios) -> list[Scenario]:
        combinations = [
            dict(zip(self.changed, values, strict=True)) for values in itertools.product(*self.changed.values())
        ]
        try:
            found = {replace(scenario, **changes) for scenario in trained.trained for changes in combinations}
        except UserError as error:
            raise ConfigError(f"suite: changed={dict(self.changed)}: {error}") from error
        found |= set(trained.held_out) if self.with_held_out else set()
        return sorted(found, key=lambda scenario: scenario.name)


def _world(path: str) -> OwnWorld:
    from mobile_vla.sim.mjcf import load_world  # here, as it imports MuJoCo

    return load_world(path)


def digest(states: Sequence[InitialState], suite: Suite, *, max_steps: int) -> str:
    """Return a hash of the states and the time limit: results of drivers are comparable if they have the same hash."""
    content = json.dumps([max_steps, *map(asdict, states)], sort_keys=True).encode()
    world = b"" if suite.mjcf is None else Path(suite.mjcf).expanduser().read_bytes()
    return hashlib.blake2b(content + world, digest_size=8).hexdigest()
