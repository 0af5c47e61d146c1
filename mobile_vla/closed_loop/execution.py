"""Choose what a robot does now from the chunks of actions that a policy has predicted for it."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt

from mobile_vla.errors import ConfigError

Command = NDArray[np.float32]


class Execution(Protocol):
    """A way to execute chunks; ``begin`` gives each robot its own memory of what was predicted."""

    def begin(self, *, fwd_pred_next_n: int) -> Executor:
        """Return the executor of one episode; ``ConfigError`` where chunks of K actions do not suffice."""
        ...


class Executor(Protocol):
    """Executes the chunks of one episode."""

    def __call__(self, chunk_KA: NDArray[np.float32]) -> Command:
        """Take up the chunk predicted at this step and return the command [A] of this step."""
        ...


class FirstActions:
    """Execute the first ``count`` actions of a chunk, then take the chunk predicted then; 1: only ever the first."""

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
    """Average what all chunks so far say of this step, weighted by exp(-decay * i), i = 0 for the oldest chunk.

    A larger ``decay`` trusts old predictions more; 0 is the plain mean. Source: Zhao et al. 2023 (ACT), algorithm 2.
    """

    def __init__(self, *, decay: NonNegativeFloat) -> None:
        self._decay = decay

    def begin(self, *, fwd_pred_next_n: int) -> Executor:
        """See ``Execution``."""
        chunks: deque[NDArray[np.float32]] = deque(maxlen=fwd_pred_next_n)

        def execute(chunk_KA: NDArray[np.float32]) -> Command:
            chunks.append(chunk_KA)
            said = np.stack([chunk[age] for age, chunk in zip(reversed(range(len(chunks))), chunks, strict=True)])
            weights = np.exp(-self._decay * np.arange(len(said)))
            return (weights @ said / weights.sum()).astype(np.float32)

        return execute
