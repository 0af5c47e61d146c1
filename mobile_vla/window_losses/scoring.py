"""Compute the loss of every window of a table under a trained model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.batches import Reader
from mobile_vla.errors import UserError
from mobile_vla.evaluation.offline import predict_windows
from mobile_vla.policy.model import Model
from mobile_vla.process.progress_bar import track
from mobile_vla.training.gradient import Precision, autocast


def window_losses(model: Model, reader: Reader, *, batch_size: int, precision: Precision) -> NDArray[np.float32]:
    """Return the loss [N] of every window of ``reader``, in evaluation mode and without augmentation.

    It is the training loss, in the units of the model's own normaliser. Raises ``UserError`` if a loss is not finite.
    """
    device = next(model.parameters()).device
    ids = np.arange(len(reader.windows))
    batches = [ids[first : first + batch_size] for first in range(0, len(ids), batch_size)]
    with autocast(precision, device):
        parts = [
            predict_windows(model, reader, batch, batch_size=batch_size).loss_N
            for batch in track(batches, description="scoring windows")
        ]
    losses_N = np.concatenate(parts)
    if num_bad := int((~np.isfinite(losses_N)).sum()):
        raise UserError(
            f"the loss is not finite for {num_bad} of {len(losses_N)} windows: this model cannot score windows"
        )
    return losses_N
