"""The options of the config group ``trainer``: the training budget and the settings of the optimiser."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from mobile_vla.errors import ConfigError
from mobile_vla.extras import require
from mobile_vla.training.gradient import Precision
from mobile_vla.training.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """The options of training; see conf/trainer/default.yaml for each of them.

    The budget is ``steps`` x ``batch_size`` windows, or ``epochs`` times the number of train windows.
    """

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
    schedule: Schedule
    clip_grad_norm: PositiveFloat
    eval_every: PositiveInt
    log_every: PositiveInt
    score_smoothing: Annotated[float, Field(ge=0, lt=1)]
    keep: PositiveInt
    stop_at_step: PositiveInt | None
    device: str
    num_threads: Annotated[int, Field(gt=0, le=1024)]

    def __post_init__(self) -> None:
        self.torch_device()  # raises an error now, and not after the data are read
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise ConfigError(
                f"trainer.micro_batch_size={self.micro_batch_size}: has no effect, as expected at most "
                f"trainer.batch_size={self.batch_size}. Lower it, or leave it null."
            )
        if self.optimizer == "adamw_8bit":
            require("bitsandbytes", asked_by="trainer.optimizer=adamw_8bit")
        self.schedule.check(peak=self.learning_rate)

    def num_steps(self, num_windows: int) -> int:
        """Return the budget in steps for ``num_windows`` train windows."""
        return budget(steps=self.steps, epochs=self.epochs, batch_size=self.batch_size, num_windows=num_windows)

    def learning_rate_at(self, step: int, *, num_steps: int) -> float:
        """Return the learning rate at ``step`` of a run with ``num_steps`` steps.

        A ``backbone_learning_rate`` follows the same curve, scaled by its ratio to ``learning_rate``.
        """
        return self.schedule.rate(step, peak=self.learning_rate, num_steps=num_steps)

    def torch_device(self) -> torch.device:
        """Return the device; ``auto`` is a GPU if there is one, otherwise the CPU."""
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
    """Return the number of training steps: ``steps``, or the steps of ``epochs`` if these are given.

    An epoch is ``num_windows`` draws, even if the sampler draws some windows twice and others never: all samplers get
    the same number of draws.
    """
    return steps if epochs is None else math.ceil(epochs * num_windows / batch_size)
