"""Answer samplers that look before they draw: forward passes beside the training step's own, counted."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_vla.data.batches import Reader
from mobile_vla.policy.model import Model
from mobile_vla.sampling.contract import Look, Measure
from mobile_vla.streams import Stream
from mobile_vla.training.non_finite import look_error
from mobile_vla.training.options import Trainer
from mobile_vla.training.precision import Precision, autocast


class ForwardPasses:
    """Asks the model about windows as recorded, in evaluation mode; ``num_windows`` counts those it was asked about.

    The same question at the same step gives the same answer: what a head draws itself comes from ``noise``.
    """

    def __init__(self, model: Model, reader: Reader, trainer: Trainer, noise: Stream) -> None:
        self.num_windows = 0
        self._model = model
        self._reader = reader
        self._size = trainer.micro_batch_size or trainer.batch_size
        self._precision: Precision = trainer.precision
        self._device = trainer.torch_device()
        self._noise = noise

    def at(self, step: int) -> Look:
        """Return the door for the draw of ``step``."""

        def look(ids: NDArray[np.int64], measure: Measure) -> NDArray[np.float32]:
            self.num_windows += len(ids)
            torch.manual_seed(self._noise.integer(step))
            was_training = self._model.training
            self._model.eval()
            parts = [self._ask(ids[i : i + self._size], measure) for i in range(0, len(ids), self._size)]
            self._model.train(was_training)
            answers = torch.cat(parts).float().cpu().numpy()
            bad = ids[~np.isfinite(answers)]
            if len(bad):
                raise look_error(bad, measure, self._reader.windows, step=step, precision=self._precision)
            return answers

        return look

    def _ask(self, ids: NDArray[np.int64], measure: Measure) -> torch.Tensor:
        batch = self._reader.gather(ids).to(self._device)
        with torch.no_grad(), autocast(self._precision, self._device):
            return self._model(batch).loss_B if measure == "loss" else self._model.gradient_norms(batch)
