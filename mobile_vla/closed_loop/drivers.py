"""Reference drivers: the expert that recorded the data, random actions, and a policy without the instruction."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_vla.closed_loop.rollout import Driver
from mobile_vla.sim.demonstrations.expert import drive, positions
from mobile_vla.sim.demonstrations.planner import NoWayError
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.sim.scene import ACTION_NAMES, ROBOT_SPEED_M_S
from mobile_vla.streams import Stream

_KEYS = np.array([(x, y, 0) for x in (-1, 0, 1) for y in (-1, 0, 1)], np.float32) * ROBOT_SPEED_M_S


def expert_actions(states: Sequence[InitialState]) -> list[NDArray[np.float32] | None]:
    """Return the actions [F, 3] of the expert's drive from each state; None where it finds no way."""
    stream = Stream(0, "expert")  # a fixed seed: the reference is the same for all policies and runs
    found: list[NDArray[np.float32] | None] = []
    for index, state in enumerate(states):
        try:
            found.append(drive(state.scene, stream.at(index)))
        except NoWayError:
            found.append(None)
    return found


def expert_paths(states: Sequence[InitialState]) -> list[NDArray[np.float64] | None]:
    """Return the positions [F, 2] in metres of the expert's drive from each state; None where it finds no way."""
    drives = zip(states, expert_actions(states), strict=True)
    return [None if actions is None else positions(state.scene, actions) for state, actions in drives]


class Expert:
    """The driver of the recorded data: robot i executes its ``actions`` (see ``expert_actions``), then stands."""

    action_names: tuple[str, ...] = ACTION_NAMES
    fwd_pred_next_n = 1

    def __init__(self, actions: Sequence[NDArray[np.float32] | None]) -> None:
        self._drives = [np.zeros((0, len(ACTION_NAMES)), np.float32) if one is None else one for one in actions]
        self.reset()

    def reset(self) -> None:
        """See ``Driver``."""
        self._to_come: dict[Hashable, Iterator[NDArray[np.float32]]] = dict(enumerate(map(iter, self._drives)))

    def act(
        self, image: NDArray[np.uint8], instruction: Sequence[str], *, robots: Sequence[Hashable]
    ) -> NDArray[np.float32]:
        """See ``Driver``; images and instructions are ignored."""
        chunks = np.zeros((len(robots), 1, len(ACTION_NAMES)), np.float32)
        for row, robot in enumerate(robots):
            chunks[row, 0] = next(self._to_come[robot], 0)
        return chunks


class Chance:
    """A random driver: one of the nine keyboard classes at every step, all equally likely."""

    action_names: tuple[str, ...] = ACTION_NAMES
    fwd_pred_next_n = 1

    def __init__(self, *, seed: int) -> None:
        self._stream = Stream(seed, "chance")
        self.reset()

    def reset(self) -> None:
        """See ``Driver``."""
        self._num_calls = 0

    def act(
        self, image: NDArray[np.uint8], instruction: Sequence[str], *, robots: Sequence[Hashable]
    ) -> NDArray[np.float32]:
        """See ``Driver``; images and instructions are ignored."""
        rng = self._stream.at(self._num_calls)
        self._num_calls += 1
        return _KEYS[rng.integers(len(_KEYS), size=len(robots))][:, None]


class WithoutInstruction:
    """A driver that gives another one an empty text instead of each instruction."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.action_names = driver.action_names
        self.fwd_pred_next_n = driver.fwd_pred_next_n

    def reset(self) -> None:
        """See ``Driver``."""
        self._driver.reset()

    def act(
        self, image: NDArray[np.uint8], instruction: Sequence[str], *, robots: Sequence[Hashable]
    ) -> NDArray[np.float32]:
        """See ``Driver``."""
        return self._driver.act(image, [""] * len(instruction), robots=robots)
