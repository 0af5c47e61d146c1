"""Measure a policy on fixed windows: every window once, in order, without augmentation."""

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
    """What a policy says of N windows: the loss of each, and the actions from its current frame on (physical units)."""

    loss_N: NDArray[np.float32]
    actions_NKA: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a policy is measured while it trains.

    ``probe_windows`` train windows, drawn once, uniformly and from the split's own seed, are measured as ``probe/...``:
    training losses of different samplers cannot be compared, these can. ``critical_threshold`` is in standard
    deviations. ``shortcuts`` says whether the trained policy is probed by ``measure_shortcuts``.
    """

    batch_size: PositiveInt
    probe_windows: NonNegativeInt
    critical_threshold: NonNegativeFloat
    shortcuts: bool

    def measure(
        self, model: Model, readers: Mapping[str, Reader], *, action_names: Sequence[str], split_seed: int
    ) -> dict[str, float]:
        """Return loss and RMSE of ``val``, of ``unseen`` and ``inner`` where they are held out, and of the probe."""
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
    """Return what ``model`` says of the windows ``ids``, in evaluation mode; the model is left in the mode it was in.

    Mixed precision is the caller's: this runs in whatever ``autocast`` surrounds it.
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
