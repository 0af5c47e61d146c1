"""Evaluate a policy on fixed windows: every window once, in order, without augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from mobile_vla.data.batches import Reader
from mobile_vla.evaluation.rmse import masked_rmse, rmse_by_part
from mobile_vla.policy.model import Model
from mobile_vla.streams import Stream


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions for N windows: the loss of each, and the actions from its current frame on (physical units)."""

    loss_N: NDArray[np.float32]
    actions_NKA: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Options of the evaluation during training.

    ``probe_windows`` train windows are evaluated as ``probe/...``. They are drawn once, uniformly and with the seed of
    the split, so they are the same for all samplers: the training losses of different samplers cannot be compared, but
    the losses on the probe can. ``critical_threshold`` is in standard deviations. If ``shortcuts`` is set,
    ``measure_shortcuts`` probes the trained policy.
    """

    batch_size: PositiveInt
    probe_windows: NonNegativeInt
    critical_threshold: NonNegativeFloat
    shortcuts: bool

    def measure(
        self, model: Model, readers: Mapping[str, Reader], *, action_names: Sequence[str], split_seed: int
    ) -> dict[str, float]:
        """Return the loss and RMSE of ``val``, of ``unseen`` and ``inner`` if they exist, and of the probe."""
        result: dict[str, float] = {}
        for split in ("val", "unseen", "inner"):
            if split in readers:
                result |= self._measure_split(model, split, readers[split], action_names)
        return result | self._measure_probe(model, readers["train"], split_seed)

    def _measure_split(self, model: Model, split: str, reader: Reader, action_names: Sequence[str]) -> dict[str, float]:
        targets = reader.current_targets()
        predicted = predict_windows(model, reader, np.arange(len(reader.windows)), batch_size=self.batch_size)
        parts = rmse_by_part(
            f"{split}/rmse",
            np.square(predicted.actions_NKA - targets.actions_NKA),
            targets=targets,
            windows=reader.windows,
            action_names=action_names,
            critical_threshold=self.critical_threshold,
        )
        return {f"{split}/loss": float(predicted.loss_N.mean(dtype=np.float64)), **parts}

    def _measure_probe(self, model: Model, reader: Reader, split_seed: int) -> dict[str, float]:
        if self.probe_windows == 0:
            return {}
        num_windows = len(reader.windows)
        ids = np.sort(Stream(split_seed, "probe").at(0).permutation(num_windows)[: self.probe_windows])
        actions_NTKA, mask_NTK = reader.targets(ids)
        predicted = predict_windows(model, reader, ids, batch_size=self.batch_size)
        rmse = masked_rmse(np.square(predicted.actions_NKA - actions_NTKA[:, -1]), mask_NTK[:, -1])
        result = {"probe/loss": float(predicted.loss_N.mean(dtype=np.float64))}
        return result if rmse is None else result | {"probe/rmse": rmse}


@torch.no_grad()
def predict_windows(model: Model, reader: Reader, ids: NDArray[np.int64], *, batch_size: int) -> Predictions:
    """Return the predictions of ``model`` for the windows ``ids`` in evaluation mode; the mode is restored afterwards.

    The caller sets the precision, by an ``autocast`` around this call.
    """
    was_training = model.training
    model.eval()
    device = model.normalizer.std_A.device
    losses, actions = [], []
    for first in range(0, len(ids), batch_size):
        answer = model(reader.gather(ids[first : first + batch_size]).to(device))
        losses.append(answer.loss_B.float().cpu().numpy())
        actions.append(answer.actions_BKA.float().cpu().numpy())
    model.train(was_training)
    return Predictions(loss_N=np.concatenate(losses), actions_NKA=np.concatenate(actions))
