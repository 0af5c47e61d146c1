"""Hold the training budget and the optimiser's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mobile_vla.errors import ConfigError
from mobile_vla.training.precision import Precision


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """The budget is ``steps`` x ``batch_size`` windows, or ``epochs`` passes' worth; see conf/trainer/default.yaml."""

    steps: PositiveInt
    epochs: PositiveFloat | None
    batch_size: PositiveInt
    micro_batch_size: PositiveInt | None
    precision: Precision
    compile: bool
    optimizer: Literal["adamw", "adamw_8bit"]
    learning_rate: PositiveFloat
    backbone_learning_rate: PositiveFloat | None
    weight_decay: NonNegativeFloat
    warmup_steps: NonNegativeInt
    decay_steps: PositiveInt | None
    final_learning_rate: NonNegativeFloat
    clip_grad_norm: PositiveFloat
    eval_every: PositiveInt
    log_every: PositiveInt
    score_smoothing: Annotated[float, Field(ge=0, lt=1)]
    keep: PositiveInt
    stop_at_step: PositiveInt | None
    device: str
    num_threads: Annotated[int, Field(gt=0, le=1024)]

    def __post_init__(self) -> None:
        self.torch_device()
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise ConfigError(
                f"trainer.micro_batch_size={self.micro_batch_size}: has no effect, as expected at most "
                f"trainer.batch_size={self.batch_size}. Lower it, or leave it null."
            )
        if self.optimizer == "adamw_8bit" and find_spec("bitsandbytes") is None:
            raise ConfigError(
                "trainer.optimizer=adamw_8bit: needs the package bitsandbytes, which is not installed. Install it "
                "(pip install 'mobile-vla[gpu]'), or use trainer.optimizer=adamw."
            )
        if self.final_learning_rate > self.learning_rate:
            raise ConfigError(
                f"trainer.final_learning_rate={self.final_learning_rate}: the rate decays, so expected at most "
                f"trainer.learning_rate={self.learning_rate}."
            )
        if self.decay_steps is not None and self.decay_steps <= self.warmup_steps:
            raise ConfigError(
                f"trainer.decay_steps={self.decay_steps}: the rate falls after the warm-up, so expected more than "
                f"trainer.warmup_steps={self.warmup_steps}."
            )

    def num_steps(self, num_windows: int) -> int:
        """Return the budget in steps over ``num_windows`` train windows."""
        return budget(steps=self.steps, epochs=self.epochs, batch_size=self.batch_size, num_windows=num_windows)

    def learning_rate_at(self, step: int, *, num_steps: int) -> float:
        """Return the rate of ``step``: a linear warm-up, then a cosine down to the final rate at ``decay_steps``.

        A ``backbone_learning_rate`` follows the same curve, scaled by its ratio to ``learning_rate``.
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        end = self.decay_steps or num_steps
        progress = min((step - self.warmup_steps) / max(end - self.warmup_steps, 1), 1.0)
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * progress))

    def torch_device(self) -> torch.device:
        """Return the device: ``auto`` takes a GPU where there is one."""
        if self.device != "auto":
            try:
                device = torch.device(self.device)
            except RuntimeError as error:
                raise ConfigError(f"trainer.device={self.device}: expected auto, cpu, cuda or cuda:N.") from error
            if device.type == "cuda" and not torch.cuda.is_available():
                raise ConfigError(f"trainer.device={self.device}: no CUDA device here. Use trainer.device=auto.")
            return device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def budget(*, steps: int, epochs: float | None, batch_size: int, num_windows: int) -> int:
    """Return how many steps are trained: ``steps``, or as many as ``epochs`` take where they are given.

    An epoch is ``num_windows`` draws, whatever the sampler makes of them.
    """
    return steps if epochs is None else math.ceil(epochs * num_windows / batch_size)
