"""Roll out many initial states in parallel: all robots advance together, with one call of the driver per step."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mobile_vla.closed_loop.execution import Execution
from mobile_vla.errors import ConfigError
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.sim.scene import Outcome

if TYPE_CHECKING:
    from mobile_vla.sim.environment import BottleEnv


class Driver(Protocol):
    """A source of actions, such as ``mobile_vla.Policy``. Robot i is the one that started in initial state i."""

    action_names: tuple[str, ...]
    fwd_pred_next_n: int

    def reset(self) -> None:
        """Begin new episodes: drop the histories of all robots."""
        ...

    def act(
        self, image: NDArray[np.uint8], instruction: Sequence[str], *, robots: Sequence[Hashable]
    ) -> NDArray[np.float32]:
        """Return chunks [B, K, A] in physical units for the newest images [B, Y, X, C] of B robots."""
        ...


@dataclass(frozen=True, kw_only=True)
class Drive:
    """One finished episode of F steps: ``position`` [F+1, 2] in metres including the start, ``command`` [F, A]."""

    state: InitialState
    outcome: Outcome
    touched: str | None
    position: NDArray[np.float64]
    command: NDArray[np.float32]


def roll_out(
    driver: Driver, states: Sequence[InitialState], *, execution: Execution, make_env: Callable[[], BottleEnv]
) -> list[Drive]:
    """Return one drive for each of ``states``, in their order.

    Robots whose episode has ended are left out of later calls, so the batch shrinks. Raises ``ConfigError`` if the
    driver does not predict all actions that the world's robot needs.
    """
    robots = [
        _Robot(env=make_env(), state=state, execute=execution.begin(fwd_pred_next_n=driver.fwd_pred_next_n))
        for state in states
    ]
    columns = command_columns(driver.action_names, robots[0].env)
    driver.reset()
    running = list(range(len(robots)))
    while running:
        chunks = driver.act(
            np.stack([robots[i].image for i in running]),
            [states[i].instruction for i in running],
            robots=running,
        )
        for i, chunk_KA in zip(running, chunks, strict=True):
            robots[i].advance(chunk_KA[:, columns])
        running = [i for i in running if robots[i].outcome is None]
    return [robot.drive() for robot in robots]


class _Robot:
    """One running episode."""

    def __init__(self, *, env: BottleEnv, state: InitialState, execute: Callable[..., NDArray[np.float32]]) -> None:
        self.env = env
        self.outcome: Outcome | None = None
        self._execute = execute
        self._state = state
        observation, info = env.reset(options={"initial_state": state})
        self.image = observation["image"]
        self._touched = None
        self._position = [info["position"]]
        self._command: list[NDArray[np.float32]] = []

    def advance(self, chunk_KA: NDArray[np.float32]) -> None:
        command = self._execute(chunk_KA)
        observation, _, _, _, info = self.env.step(command)
        self.image, self.outcome, self._touched = observation["image"], info["outcome"], info["touched"]
        self._position.append(info["position"])
        self._command.append(command)

    def drive(self) -> Drive:
        assert self.outcome is not None, "the episode has not ended"
        return Drive(
            state=self._state,
            outcome=self.outcome,
            touched=self._touched,
            position=np.array(self._position),
            command=np.array(self._command),
        )


def command_columns(action_names: Sequence[str], env: BottleEnv) -> list[int]:
    """Return the indices of the predicted actions that a world's robot needs; ``ConfigError`` if one is missing."""
    if missing := [name for name in env.action_names if name not in action_names]:
        raise ConfigError(
            f"the policy predicts {', '.join(action_names)}, and the robot of this world is commanded by "
            f"{', '.join(env.action_names)}: {', '.join(missing)} is missing. Train with dataset.actions that hold it, "
            "or leave the closed loop out (closed_loop=none)."
        )
    return [action_names.index(name) for name in env.action_names]
