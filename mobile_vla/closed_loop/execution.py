"""Choose a robot's command at each step from the chunks of actions that a policy has predicted."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt

from mobile_vla.errors import ConfigError

Command = NDArray[np.float32]


class Execution(Protocol):
    """A way to execute chunks; ``begin`` makes an executor with its own state for each robot."""

    def begin(self, *, fwd_pred_next_n: int) -> Executor:
        """Return the executor of one episode; ``ConfigError`` if chunks of this many actions are too short."""
        ...


class Executor(Protocol):
    """The executor of the chunks of one episode."""

    def __call__(self, chunk_KA: NDArray[np.float32]) -> Command:
        """Store the chunk predicted at this step and return the command [A] for this step."""
        ...


class FirstActions:
    """Execution of the first ``count`` actions of a chunk, then of the newest chunk; 1: always the first action."""

    def __init__(self, *, count: PositiveInt) -> None:
        self._count = count

    def begin(self, *, fwd_pred_next_n: int) -> Executor:
        """See ``Execution``."""
        if self._count > fwd_pred_next_n:
            raise ConfigError(
                f"closed_loop.execution.count={self._count}: the policy predicts {fwd_pred_next_n} actions at a time; "
                "expected at most as many."
            )
        waiting: deque[Command] = deque()

        def execute(chunk_KA: NDArray[np.float32]) -> Command:
            if not waiting:
                waiting.extend(chunk_KA[: self._count])
            return waiting.popleft()

        return execute


class TemporalEnsemble:
    """The mean of all predictions for this step, weighted by exp(-decay * i) with i = 0 for the oldest chunk.

    A larger ``decay`` gives old predictions more weight; 0 is the plain mean. Source: Zhao et al. 2023 (ACT),
    algorithm 2.
    """

    def __init__(self, *, decay: NonNegativeFloat) -> None:
        self._decay = decay

    def begin(self, *, fwd_pred_next_n: int) -> Executor:
        """See ``Execution``."""
        chunks: deque[NDArray[np.float32]] = deque(maxlen=fwd_pred_next_n)

        def execute(chunk_KA: NDArray[np.float32]) -> Command:
            chunks.append(chunk_KA)
            # A chunk that was predicted ``age`` steps ago has its prediction for this step at index ``age``.
            said = np.stack([chunk[age] for age, chunk in zip(reversed(range(len(chunks))), chunks, strict=True)])
            weights = np.exp(-self._decay * np.arange(len(said)))
            return (weights @ said / weights.sum()).astype(np.float32)

        return execute
