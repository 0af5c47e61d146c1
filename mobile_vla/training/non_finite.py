"""Refuse to learn from a loss or a gradient that is NaN or infinite, and say which windows it came from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import UserError
from mobile_vla.schema import Draw, WindowTable


class NonFiniteLossError(UserError):
    """The loss or its gradient became NaN or infinite; the optimiser has not stepped on it."""


def check_losses(losses_B: NDArray[np.float32], draw: Draw, windows: WindowTable, *, step: int) -> None:
    """Raise ``NonFiniteLossError``, naming the windows whose loss is not finite."""
    bad = np.flatnonzero(~np.isfinite(losses_B))
    if not len(bad):
        return
    ids = draw.ids[bad[:8]].tolist()
    named = [f"{i} ({windows.episode_names[windows.episode[i]]} from frame {windows.start[i]})" for i in ids]
    raise NonFiniteLossError(
        f"step {step}: the loss is not finite for {len(bad)} of {len(losses_B)} windows: {', '.join(named)}. "
        f"{_advice(draw)}"
    )


def gradient_error(draw: Draw, *, step: int) -> NonFiniteLossError:
    """Return the error of a gradient that is not finite where every loss is."""
    return NonFiniteLossError(f"step {step}: the loss is finite, its gradient is not. {_advice(draw)}")


def _advice(draw: Draw) -> str:
    return (
        f"Window ids of the batch: {draw.ids.tolist()}. Lower trainer.learning_rate, look at these windows, or use "
        "trainer.precision=bf16 in place of fp16."
    )
