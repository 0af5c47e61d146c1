"""Keep what a policy gets wrong window by window: every slice of the RMSE is a sum over these lines."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.batches import Reader, Targets
from mobile_vla.disk import write_atomically
from mobile_vla.evaluation.offline import Predictions, predict_windows
from mobile_vla.policy.model import Model
from mobile_vla.schema import WindowTable

WINDOW_ERRORS_FILE = "val_windows.csv"

_COLUMNS = ("episode", "frame", "scenario", "task", "phase", "squared_error", "num_targets", "loss")


@dataclass(frozen=True, kw_only=True)
class WindowErrors:
    """What a policy predicted for all N windows of a table, and how far off it was.

    ``squared_error_N`` sums over the existing targets of a window (horizon x action dimensions, physical units), which
    ``num_targets_N`` counts (at least one action: the current frame's own): the RMSE of any slice is
    sqrt(sum of the one / sum of the other).
    """

    windows: WindowTable
    targets: Targets
    predictions: Predictions
    squared_error_N: NDArray[np.float64]
    num_targets_N: NDArray[np.int64]

    @property
    def rmse(self) -> NDArray[np.float64]:
        """RMSE of each window [N]; not finite where a prediction is not."""
        return np.sqrt(self.squared_error_N / self.num_targets_N)


def measure_windows(model: Model, reader: Reader, *, batch_size: int) -> WindowErrors:
    """Return the errors on all windows of ``reader`` in one pass, in whatever ``autocast`` surrounds the call."""
    targets = reader.current_targets()
    predictions = predict_windows(model, reader, np.arange(len(reader.windows)), batch_size=batch_size)
    squared_NKA = np.square(predictions.actions_NKA - targets.actions_NKA)
    existing_NKA = np.where(targets.mask_NK[..., None], squared_NKA, 0)
    return WindowErrors(
        windows=reader.windows,
        targets=targets,
        predictions=predictions,
        squared_error_N=existing_NKA.sum((1, 2), dtype=np.float64),
        num_targets_N=targets.mask_NK.sum(1, dtype=np.int64) * squared_NKA.shape[-1],
    )


def write_window_errors(errors: WindowErrors, path: Path) -> None:
    """Write one line a window, in the order of the table; ``frame`` is the window's current frame."""
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
