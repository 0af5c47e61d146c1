"""Refuse to learn from a loss or a gradient that is NaN or infinite, and say which windows it came from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import UserError
from mobile_vla.sampling.contract import Measure
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.training.precision import Precision

_MAX_NAMED = 8


class NonFiniteLossError(UserError):
    """The loss or its gradient became NaN or infinite; the optimiser has not stepped on it."""


def check_losses(
    losses_B: NDArray[np.float32], draw: Draw, windows: WindowTable, *, step: int, precision: Precision
) -> None:
    """Raise ``NonFiniteLossError``, naming the windows whose loss is not finite."""
    bad = np.flatnonzero(~np.isfinite(losses_B))
    if not len(bad):
        return
    raise NonFiniteLossError(
        f"step {step}: the loss is not finite for {len(bad)} of {len(losses_B)} windows: "
        f"{_named(draw.ids[bad], windows)}. "
        f"{_advice(precision)} Window ids of the batch: {draw.ids.tolist()}."
    )


def look_error(
    bad: NDArray[np.int64], measure: Measure, windows: WindowTable, *, step: int, precision: Precision
) -> NonFiniteLossError:
    """Return the error of a sampler that looks at windows, of which those in ``bad`` have no finite ``measure``."""
    return NonFiniteLossError(
        f"step {step}: the {measure} at which the sampler looks is not finite for {len(bad)} windows: "
        f"{_named(bad, windows)}. {_advice(precision)}"
    )


def gradient_error(draw: Draw, *, step: int, precision: Precision) -> NonFiniteLossError:
    """Return the error of a gradient that is not finite where every loss is."""
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
