"""Find the val windows with the highest mean error over all runs, with the runs' predictions for them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from PIL import Image

from mobile_vla.compare.data.episode_errors import WINDOWS
from mobile_vla.compare.page.blocks import Value, tidy
from mobile_vla.compare.page.run_files import (
    HARDEST,
    HardWindow,
    RunFiles,
    WindowKey,
    problems_of,
    without_file,
)
from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import read_limited

NUM_SHOWN = 12

_MAX_BYTES = 2 * 2**20
"""The limit for a picture. A normal one (a few small frames side by side) has some kB, and a page shows twelve."""

_MAX_PIXELS = 2**24
"""The limit for a picture. A small file can contain a huge picture, which the browser would decode into memory."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The content of a picture file, and its kind (``jpeg`` or ``png``)."""

    content: bytes
    kind: str

    @property
    def address(self) -> str:
        """The picture as a data URL."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The predicted actions of one run, [K][A] (horizon, action dimensions)."""

    label: str
    seed: int
    actions_KA: Sequence[Sequence[float | None]]


@dataclass(frozen=True, kw_only=True)
class Hard:
    """One hard window: its ``rmse`` by run (label, seed), and the predictions of the runs that list it as hardest."""

    window: HardWindow
    rmse: dict[tuple[str, int], float]
    predictions: Sequence[Prediction]
    image: Picture | None

    @property
    def mean(self) -> float:
        """The mean RMSE over the runs."""
        return fmean(self.rmse.values())


def hardest_windows(files: Sequence[RunFiles]) -> list[Hard]:
    """Return at most NUM_SHOWN windows, highest mean RMSE over runs first.

    Candidates are the windows that at least one run lists in its ``hardest.json``. The mean is over all runs with a
    value for the window; with ``val_windows.csv`` a run has a value for every window.
    """
    listed: dict[WindowKey, list[tuple[RunFiles, HardWindow]]] = {}
    for file in files:
        for window in file.hardest:
            listed.setdefault(window.key, []).append((file, window))
    ranked = sorted(((_rmse(key, files, named), key) for key, named in listed.items()), key=_hardest_first)
    return [_hard(rmse, listed[key]) for rmse, key in ranked[:NUM_SHOWN]]


def hardest_table(windows: Sequence[Hard]) -> dict[str, list[Value]]:
    """Return a table with one row per window and run."""
    rows: list[Sequence[Value]] = [
        [*hard.window.key, hard.window.scenario, hard.window.phase, label, seed, rmse]
        for hard in windows
        for (label, seed), rmse in hard.rmse.items()
    ]
    return tidy(["episode", "frame", "scenario", "phase", "sampler", "seed", "rmse"], rows)


def hardest_notes(files: Sequence[RunFiles]) -> list[str]:
    """Return texts on the files that are missing or damaged."""
    return [
        *(note for name in (HARDEST, WINDOWS) for note in problems_of(files, name)),
        *without_file(files, HARDEST),
        *without_file(files, WINDOWS),
    ]


def _rmse(
    key: WindowKey, files: Sequence[RunFiles], named: Sequence[tuple[RunFiles, HardWindow]]
) -> dict[tuple[str, int], float]:
    measured = {(file.label, file.seed): file.window_rmse[key] for file in files if key in file.window_rmse}
    return {(file.label, file.seed): window.rmse for file, window in named} | measured


def _hardest_first(entry: tuple[dict[tuple[str, int], float], WindowKey]) -> tuple[float, WindowKey]:
    rmse, key = entry
    return (-fmean(rmse.values()), key)


def _hard(rmse: dict[tuple[str, int], float], named: Sequence[tuple[RunFiles, HardWindow]]) -> Hard:
    images = [image for _, window in named if (image := embeddable(window.image)) is not None]
    return Hard(
        window=named[0][1],
        rmse=rmse,
        predictions=[
            Prediction(label=file.label, seed=file.seed, actions_KA=window.predicted_KA) for file, window in named
        ],
        image=images[0] if images else None,
    )


def embeddable(path: Path) -> Picture | None:
    """Return the picture in the file ``path``; None if it is missing, not a JPEG or PNG, or too large for a page."""
    try:
        content = read_limited(path, max_bytes=_MAX_BYTES)
        # Image.open reads only the header, so a picture that is too large is never decoded.
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.width * image.height > _MAX_PIXELS or image.format is None:
                return None
            return Picture(content=content, kind=image.format.lower())
    except (UserError, OSError, ValueError, Image.DecompressionBombError):
        return None
