"""Extra forward passes for samplers that measure windows before they draw; their windows are counted."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_vla.data.batches import Reader
from mobile_vla.policy.model import Model
from mobile_vla.sampling.contract import Measure, ScoreWindows
from mobile_vla.streams import Stream
from mobile_vla.training.gradient import Precision, autocast
from mobile_vla.training.non_finite import measure_error
from mobile_vla.training.options import Trainer


class ForwardPasses:
    """Measurements of windows as recorded, by the model in evaluation mode; ``num_windows`` counts the windows.

    The same windows at the same step give the same values: random numbers that a head draws come from ``noise``.
    """

    def __init__(self, model: Model, reader: Reader, trainer: Trainer, noise: Stream) -> None:
        self.num_windows = 0
        self._model = model
        self._reader = reader
        self._size = trainer.micro_batch_size or trainer.batch_size
        self._precision: Precision = trainer.precision
        self._device = trainer.torch_device()
        self._noise = noise

    def at(self, step: int) -> ScoreWindows:
        """Return the function that measures windows for the draw of ``step``."""

        def score_windows(ids: NDArray[np.int64], measure: Measure) -> NDArray[np.float32]:
            self.num_windows += len(ids)
            # The training step sets the generator again after this, so the passes do not change what training draws.
            torch.manual_seed(self._noise.integer(step))
            was_training = self._model.training
            self._model.eval()
            parts = [self._ask(ids[i : i + self._size], measure) for i in range(0, len(ids), self._size)]
            self._model.train(was_training)
            answers = torch.cat(parts).float().cpu().numpy()
            bad = ids[~np.isfinite(answers)]
            if len(bad):
                raise measure_error(bad, measure, self._reader.windows, step=step, precision=self._precision)
            return answers

        return score_windows

    def _ask(self, ids: NDArray[np.int64], measure: Measure) -> torch.Tensor:
        batch = self._reader.gather(ids).to(self._device)
        with torch.no_grad(), autocast(self._precision, self._device):
            return self._model(batch).loss_B if measure == "loss" else self._model.gradient_norms(batch)
