"""Errors for a loss or a gradient that is NaN or infinite; they name the windows that it came from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import UserError
from mobile_vla.sampling.contract import Measure
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.training.gradient import Precision

_MAX_NAMED = 8


class NonFiniteLossError(UserError):
    """The loss or its gradient became NaN or infinite; the optimiser has not taken a step with it."""


def check_losses(
    losses_B: NDArray[np.float32], draw: Draw, windows: WindowTable, *, step: int, precision: Precision
) -> None:
    """Raise ``NonFiniteLossError`` if a loss is not finite; the message names the windows."""
    bad = np.flatnonzero(~np.isfinite(losses_B))
    if not len(bad):
        return
    raise NonFiniteLossError(
        f"step {step}: the loss is not finite for {len(bad)} of {len(losses_B)} windows: "
        f"{_named(draw.ids[bad], windows)}. "
        f"{_advice(precision)} Window ids of the batch: {draw.ids.tolist()}."
    )


def measure_error(
    bad: NDArray[np.int64], measure: Measure, windows: WindowTable, *, step: int, precision: Precision
) -> NonFiniteLossError:
    """Return the error for a sampler that measures windows, if the ``measure`` of the windows ``bad`` is not finite."""
    return NonFiniteLossError(
        f"step {step}: the {measure} that the sampler measures is not finite for {len(bad)} windows: "
        f"{_named(bad, windows)}. {_advice(precision)}"
    )


def gradient_error(draw: Draw, *, step: int, precision: Precision) -> NonFiniteLossError:
    """Return the error for a gradient that is not finite although every loss is finite."""
    return NonFiniteLossError(
        f"step {step}: the loss is finite, its gradient is not. {_advice(precision)} "
        f"Window ids of the batch: {draw.ids.tolist()}."
    )


def _advice(precision: Precision) -> str:
    return "Lower trainer.learning_rate, or look at the windows" + (
        ", or train in trainer.precision=bf16, which overflows later." if precision == "fp16" else "."
    )


def _named(ids: NDArray[np.int64], windows: WindowTable) -> str:
    names = [f"{i} ({windows.episode_names[windows.episode[i]]} from frame {windows.start[i]})" for i in ids.tolist()]
    return ", ".join(names[:_MAX_NAMED])
