"""Record the errors of a policy for each window, from which the RMSE of any subset of windows can be computed."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.batches import Reader, Targets
from mobile_vla.evaluation.action_scale import ActionScale
from mobile_vla.evaluation.offline import Predictions, predict_windows
from mobile_vla.policy.model import Model
from mobile_vla.schema import WindowTable
from mobile_vla.storage.disk import write_atomically

WINDOW_ERRORS_FILE = "val_windows.csv"

_COLUMNS = ("episode", "frame", "scenario", "task", "phase", "squared_error", "num_targets", "loss")


@dataclass(frozen=True, kw_only=True)
class WindowErrors:
    """The predictions of a policy for all N windows of a table, and their errors.

    ``squared_error_N`` is the sum of the squared errors over the existing targets of a window (horizon x action
    dimensions), as the error that decides counts them: in physical units, or in units of each signal's spread, without
    those that are constant in train. ``num_targets_N`` is the number of these targets; at least the action of the
    current frame exists. The error of any subset of windows is sqrt(sum of squared_error_N / sum of num_targets_N).
    """

    windows: WindowTable
    targets: Targets
    predictions: Predictions
    squared_error_N: NDArray[np.float64]
    num_targets_N: NDArray[np.int64]

    @property
    def rmse(self) -> NDArray[np.float64]:
        """The error of each window [N]; not finite where a prediction is not finite."""
        return np.sqrt(self.squared_error_N / self.num_targets_N)


def measure_windows(model: Model, reader: Reader, *, batch_size: int, scale: ActionScale) -> WindowErrors:
    """Return the errors on all windows of ``reader`` in one pass; the caller's ``autocast`` sets the precision."""
    targets = reader.current_targets()
    predictions = predict_windows(model, reader, np.arange(len(reader.windows)), batch_size=batch_size)
    squared_NKA = scale.decided(np.square(predictions.actions_NKA - targets.actions_NKA))
    # ``where`` instead of a product with the mask, so that NaN at a missing target does not enter the sum.
    existing_NKA = np.where(targets.mask_NK[..., None], squared_NKA, 0)
    return WindowErrors(
        windows=reader.windows,
        targets=targets,
        predictions=predictions,
        squared_error_N=existing_NKA.sum((1, 2), dtype=np.float64),
        num_targets_N=targets.mask_NK.sum(1, dtype=np.int64) * squared_NKA.shape[-1],
    )


def write_window_errors(errors: WindowErrors, path: Path) -> None:
    """Write a CSV file with one line for each window, in table order; ``frame`` is the window's current frame."""
    windows = errors.windows
    columns = (
        [windows.episode_names[e] for e in windows.episode],
        windows.frame.tolist(),
        [windows.scenario_names[s] for s in windows.scenario],
        [windows.task_names[t] for t in windows.task],
        windows.phase.tolist(),
        errors.squared_error_N.tolist(),
        errors.num_targets_N.tolist(),
        errors.predictions.loss_N.tolist(),
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(zip(*columns, strict=True))
    write_atomically(path, text.getvalue())
