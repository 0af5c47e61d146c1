"""Evaluate a policy on fixed windows: every window once, in order, without augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from mobile_vla.data.batches import Reader
from mobile_vla.evaluation.action_scale import ActionScale
from mobile_vla.evaluation.rmse import masked_rmse, rmse_by_part
from mobile_vla.metrics import ERROR, SCALED_ERROR, part_of
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
        self, model: Model, readers: Mapping[str, Reader], *, scale: ActionScale, split_seed: int
    ) -> dict[str, float]:
        """Return the loss and the errors of ``val``, of ``unseen`` and ``inner`` if they exist, and of the probe.

        The errors are the RMSE in the signals' units, with its parts, and the RMSE in units of their spread; that has
        parts where it decides.
        """
        result: dict[str, float] = {}
        for split in ("val", "unseen", "inner"):
            if split in readers:
                result |= self._measure_split(model, split, readers[split], scale)
        return result | self._measure_probe(model, readers["train"], scale, split_seed)

    def _measure_split(self, model: Model, split: str, reader: Reader, scale: ActionScale) -> dict[str, float]:
        targets = reader.current_targets()
        predicted = predict_windows(model, reader, np.arange(len(reader.windows)), batch_size=self.batch_size)
        squared_NKA = np.square(predicted.actions_NKA - targets.actions_NKA)
        by_part = partial(
            rmse_by_part,
            targets=targets,
            windows=reader.windows,
            critical_threshold=self.critical_threshold,
            groups=scale.groups,
            rest_A=scale.rest_A,
        )
        name, scaled_name = part_of(ERROR, split), part_of(SCALED_ERROR, split)
        parts = by_part(name, squared_NKA, action_names=scale.names)
        if scale.is_scaled:
            parts |= by_part(scaled_name, scale.scaled(squared_NKA), action_names=(), columns=scale.varying)
        else:
            scaled = masked_rmse(scale.scaled(squared_NKA), targets.mask_NK)
            parts |= {} if scaled is None else {scaled_name: scaled}
        return {f"{split}/loss": float(predicted.loss_N.mean(dtype=np.float64)), **parts}

    def _measure_probe(self, model: Model, reader: Reader, scale: ActionScale, split_seed: int) -> dict[str, float]:
        if self.probe_windows == 0:
            return {}
        num_windows = len(reader.windows)
        ids = np.sort(Stream(split_seed, "probe").at(0).permutation(num_windows)[: self.probe_windows])
        actions_NTKA, mask_NTK = reader.targets(ids)
        predicted = predict_windows(model, reader, ids, batch_size=self.batch_size)
        squared_NKA, mask_NK = np.square(predicted.actions_NKA - actions_NTKA[:, -1]), mask_NTK[:, -1]
        rmse, scaled = masked_rmse(squared_NKA, mask_NK), masked_rmse(scale.scaled(squared_NKA), mask_NK)
        result = {"probe/loss": float(predicted.loss_N.mean(dtype=np.float64))}
        if rmse is None or scaled is None:
            return result
        return result | {part_of(ERROR, "probe"): rmse, part_of(SCALED_ERROR, "probe"): scaled}


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
