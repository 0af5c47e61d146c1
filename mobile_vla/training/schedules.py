"""Learning rate schedules: the learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from mobile_vla.errors import ConfigError


class Schedule(Protocol):
    """A learning rate schedule, an option of the config group ``trainer/schedule``."""

    @property
    def depends_on_the_end(self) -> bool:
        """Whether the rates of the first steps also depend on the number of steps of the run."""
        ...

    def check(self, *, peak: float) -> None:
        """Raise ``ConfigError`` if the schedule is not possible with the largest rate ``peak``."""
        ...

    def rate(self, step: int, *, peak: float, num_steps: int) -> float:
        """Return the rate at ``step`` (0 or more) of a run with ``num_steps`` steps; ``peak`` is the largest rate."""
        ...


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A linear warm-up over ``warmup_steps``, then ``peak``."""

    warmup_steps: NonNegativeInt

    @property
    def depends_on_the_end(self) -> bool:
        """See ``Schedule``: it does not."""
        return False

    def check(self, *, peak: float) -> None:
        """See ``Schedule``: every peak is possible."""

    def rate(self, step: int, *, peak: float, num_steps: int) -> float:
        """See ``Schedule``."""
        return peak * _warmed_up(step, self.warmup_steps)


@dataclass(frozen=True, kw_only=True)
class Decay:
    """A linear warm-up over ``warmup_steps``, then a decay to ``final_learning_rate``, where the rate stays.

    The decay ends at ``decay_steps``; if that is None, at the run's last step. ``shape`` is the curve of the decay.
    """

    shape: Literal["cosine", "linear"]
    warmup_steps: NonNegativeInt
    decay_steps: PositiveInt | None
    final_learning_rate: NonNegativeFloat

    def __post_init__(self) -> None:
        if self.decay_steps is not None and self.decay_steps <= self.warmup_steps:
            raise ConfigError(
                f"trainer.schedule.decay_steps={self.decay_steps}: the rate falls after the warm-up, so expected more "
                f"than trainer.schedule.warmup_steps={self.warmup_steps}."
            )

    @property
    def depends_on_the_end(self) -> bool:
        """See ``Schedule``: it does, unless ``decay_steps`` is given."""
        return self.decay_steps is None

    def check(self, *, peak: float) -> None:
        """See ``Schedule``: the final rate must not be larger than the peak."""
        if self.final_learning_rate > peak:
            raise ConfigError(
                f"trainer.schedule.final_learning_rate={self.final_learning_rate}: the rate falls, so expected at most "
                f"trainer.learning_rate={peak}."
            )

    def rate(self, step: int, *, peak: float, num_steps: int) -> float:
        """See ``Schedule``."""
        if step < self.warmup_steps:
            return peak * _warmed_up(step, self.warmup_steps)
        end = self.decay_steps or num_steps
        progress = min((step - self.warmup_steps) / max(end - self.warmup_steps, 1), 1.0)
        left = 0.5 * (1 + math.cos(math.pi * progress)) if self.shape == "cosine" else 1 - progress
        return self.final_learning_rate + (peak - self.final_learning_rate) * left


def _warmed_up(step: int, warmup_steps: int) -> float:
    """Return the fraction of the peak at ``step``; it is not 0 at step 0, which would be a step without any effect."""
    return (step + 1) / warmup_steps if step < warmup_steps else 1.0
