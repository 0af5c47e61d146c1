"""Turn a batch into the gradient of its weighted mean loss, in passes of as many windows as fit into memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_vla.policy.model import Answer, Model
from mobile_vla.schema import Batch
from mobile_vla.training.precision import Precision, autocast


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one step showed, on the CPU.

    ``losses_B`` are not weighted; ``squared_error`` sums over ``num_targets`` targets at the current frames, in
    physical units; ``grad_norm`` is that before clipping.
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
) -> Answer:
    """Add the scaled gradient of ``(loss_B * weights_B).mean()`` to the parameters and return the detached answer.

    It is the same gradient however the batch is cut, as no window's loss depends on its neighbours. What a model
    draws itself (dropout, noise) goes on from pass to pass, so there another cut is another draw.
    """
    weights = torch.from_numpy(weights_B).to(batch.actions_BTKA.device)
    size = micro_batch_size or len(batch)
    answers = []
    for first in range(0, len(batch), size):
        rows = batch.rows(first, first + size)
        with autocast(precision, weights.device):
            answer = model(rows)
        loss = (answer.loss_B * weights[first : first + size]).sum() / len(batch)
        scaler.scale(loss).backward()
        answers.append(Answer(loss_B=answer.loss_B.detach(), actions_BKA=answer.actions_BKA.detach()))
    return Answer(
        loss_B=torch.cat([answer.loss_B for answer in answers]),
        actions_BKA=torch.cat([answer.actions_BKA for answer in answers]),
    )


def measure(answer: Answer, batch: Batch, grad_norm: torch.Tensor) -> Measured:
    """Return the figures of a step; they leave the device together, as each transfer waits for all its work."""
    mask_BK1 = batch.mask_BTK[:, -1, :, None]
    squared_BKA = (answer.actions_BKA - batch.actions_BTKA[:, -1]).square() * mask_BK1
    figures = torch.stack([squared_BKA.sum(), mask_BK1.sum() * squared_BKA.shape[-1], grad_norm])
    found = torch.cat([figures, answer.loss_B]).float().cpu().numpy()
    return Measured(
        losses_B=found[3:], squared_error=float(found[0]), num_targets=int(found[1]), grad_norm=float(found[2])
    )
