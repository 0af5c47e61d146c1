"""The gradient of a batch's weighted mean loss, computed in micro-batches that fit into memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_vla.policy.model import Model, ModelOutput
from mobile_vla.schema import Batch

Precision = Literal["fp32", "bf16", "fp16"]
"""The number format of the forward and backward pass; weights, their gradients and the optimiser's state stay fp32."""

_DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The measurements of one step, on the CPU.

    ``losses_B`` are not weighted. ``squared_error`` is the sum over ``num_targets`` targets at the current frames, in
    physical units. ``grad_norm`` is the norm before clipping.
    """

    losses_B: NDArray[np.float32]
    squared_error: float
    num_targets: int
    grad_norm: float


def accumulate_gradient(
    model: Model,
    batch: Batch,
    weights_B: NDArray[np.float32],
    *,
    micro_batch_size: int | None,
    precision: Precision,
    scaler: torch.amp.GradScaler,
) -> ModelOutput:
    """Add the scaled gradient of ``(loss_B * weights_B).mean()`` to the parameters and return the detached output.

    The gradient does not depend on ``micro_batch_size``, because no window's loss depends on the other windows. The
    exception is what a model draws itself (dropout, noise): the random generator is not set again for each
    micro-batch, so another size gives other random numbers.
    """
    weights = torch.from_numpy(weights_B).to(batch.actions_BTKA.device)
    size = micro_batch_size or len(batch)
    outputs = []
    for first in range(0, len(batch), size):
        rows = batch.rows(first, first + size)
        with autocast(precision, weights.device):
            output = model(rows)
        # Divided by the whole batch: the mean of the micro-batches' means is wrong if the last one is smaller.
        loss = (output.loss_B * weights[first : first + size]).sum() / len(batch)
        scaler.scale(loss).backward()
        outputs.append(ModelOutput(loss_B=output.loss_B.detach(), actions_BKA=output.actions_BKA.detach()))
    return ModelOutput(
        loss_B=torch.cat([output.loss_B for output in outputs]),
        actions_BKA=torch.cat([output.actions_BKA for output in outputs]),
    )


def measure(output: ModelOutput, batch: Batch, grad_norm: torch.Tensor) -> Measured:
    """Return the measurements of a step.

    They are copied from the device in one transfer, because each transfer waits until the device has finished.
    """
    mask_BK1 = batch.mask_BTK[:, -1, :, None]
    squared_BKA = (output.actions_BKA - batch.actions_BTKA[:, -1]).square() * mask_BK1
    figures = torch.stack([squared_BKA.sum(), mask_BK1.sum() * squared_BKA.shape[-1], grad_norm])
    found = torch.cat([figures, output.loss_B]).float().cpu().numpy()
    return Measured(
        losses_B=found[3:], squared_error=float(found[0]), num_targets=int(found[1]), grad_norm=float(found[2])
    )


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context for a forward pass; for ``fp32`` it changes nothing.

    Training and the evaluations during training use it. A live policy and the shortcut probes after training run in
    fp32.
    """
    return torch.autocast(device.type, dtype=_DTYPES.get(precision), enabled=precision in _DTYPES)


def gradient_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Return the loss scaler that keeps small fp16 gradients from becoming 0; for other formats its scale stays 1."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def lower_scale(scaler: torch.amp.GradScaler) -> bool:
    """Lower the loss scale after a gradient that was not finite; return False if a lower scale cannot help.

    It cannot help if there is no scaler, if the scaler found no overflow (then the norm of the unscaled gradient is too
    large for float32), or if the scale would fall below 1.
    """
    before = scaler.get_scale()
    scaler.update()
    return 1 <= scaler.get_scale() < before
