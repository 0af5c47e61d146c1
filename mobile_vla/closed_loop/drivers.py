"""Drive without a policy, as references: the expert that recorded the data, chance, and a policy that cannot read."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_vla.closed_loop.rollout import Driver
from mobile_vla.schema import ACTION_NAMES
from mobile_vla.sim.expert import drive, positions
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.sim.planner import NoWayError
from mobile_vla.sim.scene import ROBOT_SPEED_M_S
from mobile_vla.streams import Stream

_KEYS = np.array([(x, y, 0) for x in (-1, 0, 1) for y in (-1, 0, 1)], np.float32) * ROBOT_SPEED_M_S


def expert_actions(states: Sequence[InitialState]) -> list[NDArray[np.float32] | None]:
    """Return one drive's actions [F, 3] for each state, by the recorded data's driver; None where it finds no way."""
    stream = Stream(0, "expert")
    found: list[NDArray[np.float32] | None] = []
    for index, state in enumerate(states):
        try:
            found.append(drive(state.scene, stream.at(index)))
        except NoWayError:
            found.append(None)
    return found


def expert_paths(states: Sequence[InitialState]) -> list[NDArray[np.float64] | None]:
    """Return where that drive leads from each state: positions [F, 2] in metres."""
    drives = zip(states, expert_actions(states), strict=True)
    return [None if actions is None else positions(state.scene, actions) for state, actions in drives]


class Expert:
    """The recorded data's driver: robot i plays its ``actions`` (see ``expert_actions``), then stands."""

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
        """See ``Driver``; the images are not looked at."""
        chunks = np.zeros((len(robots), 1, len(ACTION_NAMES)), np.float32)
        for row, robot in enumerate(robots):
            chunks[row, 0] = next(self._to_come[robot], 0)
        return chunks


class Chance:
    """One of the nine keyboard classes at every step, any as likely as any other."""

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
        """See ``Driver``; nothing is looked at."""
        rng = self._stream.at(self._num_calls)
        self._num_calls += 1
        return _KEYS[rng.integers(len(_KEYS), size=len(robots))][:, None]


class WithoutInstruction:
    """A policy from which the instruction is withheld: every text is empty."""

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
