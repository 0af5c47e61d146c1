"""Write the windows with the largest errors of a policy: their images, the predicted actions and the targets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobile_vla.data.batches import Reader
from mobile_vla.evaluation.window_errors import WindowErrors
from mobile_vla.storage.disk import write_atomically

HARDEST_FILE = "hardest.json"
HARDEST_FOLDER = "hardest"
NUM_HARDEST = 12

APART = 4
"""Windows of one episode at most this many frames apart are near-duplicates; only the hardest of them is written."""

_MAX_HEIGHT_PX = 128
_JPEG_QUALITY = 85


def hardest_windows(errors: WindowErrors, *, count: int = NUM_HARDEST) -> list[int]:
    """Return the rows of at most ``count`` windows of the highest error, the hardest first.

    A window is skipped if its current frame is at most ``APART`` frames from that of a chosen window of its episode. A
    prediction that is not finite counts as harder than any other.
    """
    windows = errors.windows
    chosen: list[int] = []
    for row in np.argsort(-np.nan_to_num(errors.rmse, nan=np.inf), kind="stable").tolist():
        beside = [c for c in chosen if windows.episode[c] == windows.episode[row]]
        if all(abs(windows.frame[c] - windows.frame[row]) > APART for c in beside):
            chosen.append(row)
        if len(chosen) == count:
            break
    return chosen


def write_hardest(errors: WindowErrors, reader: Reader, *, action_names: Sequence[str], folder: Path) -> None:
    """Write ``hardest.json`` and the pictures that it names into the run folder; earlier pictures are deleted.

    ``reader`` reads the images of the windows of ``errors``. ``predicted`` and ``target`` are [K][A] in physical units,
    null where a target does not exist or a number is not finite.
    """
    pictures = folder / HARDEST_FOLDER
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    rows = hardest_windows(errors)
    images_BTVCYX = reader.gather(np.array(rows)).images_BTVCYX.numpy()
    entries = []
    for place, (row, images_TVCYX) in enumerate(zip(rows, images_BTVCYX, strict=True), start=1):
        entry = _described(errors, row)
        image = f"{HARDEST_FOLDER}/{place:02d}-{entry['episode']}-{entry['frame']}.jpg"
        history_strip(images_TVCYX).save(folder / image, quality=_JPEG_QUALITY)
        entries.append({**entry, "action_names": list(action_names), "image": image})
    write_atomically(folder / HARDEST_FILE, json.dumps(entries, indent=1, allow_nan=False) + "\n")


def history_strip(images_TVCYX: NDArray[np.uint8]) -> Image.Image:
    """Return one image of the frames of a history: a row for each camera, with the oldest frame on the left.

    A row is at most ``_MAX_HEIGHT_PX`` high.
    """
    rows = np.concatenate(images_TVCYX.transpose(0, 1, 3, 4, 2), axis=-2)
    strip = Image.fromarray(np.ascontiguousarray(np.concatenate(rows)))
    strip.thumbnail((strip.width, _MAX_HEIGHT_PX * len(rows)))
    return strip


def _described(errors: WindowErrors, row: int) -> dict[str, Any]:
    windows, targets = errors.windows, errors.targets
    return {
        "episode": windows.episode_names[windows.episode[row]],
        "frame": int(windows.frame[row]),
        "scenario": windows.scenario_names[windows.scenario[row]],
        "phase": int(windows.phase[row]),
        "rmse": _with_nulls(errors.rmse[row]),
        "predicted": _with_nulls(errors.predictions.actions_NKA[row]),
        "target": _with_nulls(np.where(targets.mask_NK[row][:, None], targets.actions_NKA[row], np.nan)),
    }


def _with_nulls(values: NDArray[np.floating] | np.floating) -> Any:
    """Return ``values`` as JSON values, with null for numbers that are not finite (JSON has no NaN or infinity)."""
    listed = np.array(values, object)
    listed[~np.isfinite(values)] = None
    return listed.tolist()
