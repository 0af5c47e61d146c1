"""Refuse to learn from a loss or a gradient that is NaN or infinite, and say which windows it came from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import UserError
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.training.precision import Precision


class NonFiniteLossError(UserError):
    """The loss or its gradient became NaN or infinite; the optimiser has not stepped on it."""


def check_losses(
    losses_B: NDArray[np.float32], draw: Draw, windows: WindowTable, *, step: int, precision: Precision
) -> None:
    """Raise ``NonFiniteLossError``, naming the windows whose loss is not finite."""
    bad = np.flatnonzero(~np.isfinite(losses_B))
    if not len(bad):
        return
    ids = draw.ids[bad[:8]].tolist()
    named = [f"{i} ({windows.episode_names[windows.episode[i]]} from frame {windows.start[i]})" for i in ids]
    raise NonFiniteLossError(
        f"step {step}: the loss is not finite for {len(bad)} of {len(losses_B)} windows: {', '.join(named)}. "
        f"{advice(precision)} Window ids of the batch: {draw.ids.tolist()}."
    )


def gradient_error(draw: Draw, *, step: int, precision: Precision) -> NonFiniteLossError:
    """Return the error of a gradient that is not finite where every loss is."""
    return NonFiniteLossError(
        f"step {step}: the loss is finite, its gradient is not. {advice(precision)} "
        f"Window ids of the batch: {draw.ids.tolist()}."
    )


def advice(precision: Precision) -> str:
    """Say what may help where a loss or a gradient is not finite."""
    return "Lower trainer.learning_rate, or look at the windows" + (
        ", or train in trainer.precision=bf16, which overflows later." if precision == "fp16" else "."
    )
