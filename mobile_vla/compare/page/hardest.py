"""Find the val windows that all runs together find hardest, with what each predicted there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from mobile_vla.compare.episodes import WINDOWS
from mobile_vla.compare.page.blocks import Value, tidy
from mobile_vla.compare.page.pictures import Picture, embeddable
from mobile_vla.compare.page.run_files import (
    HARDEST,
    HardWindow,
    RunFiles,
    WindowKey,
    problems_of,
    without_file,
)

NUM_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one run predicted, [K][A]."""

    label: str
    seed: int
    actions_KA: Sequence[Sequence[float | None]]


@dataclass(frozen=True, kw_only=True)
class Hard:
    """One window: its ``rmse`` by run (label, seed), and the predictions of the runs that list it as hardest."""

    window: HardWindow
    rmse: dict[tuple[str, int], float]
    predictions: Sequence[Prediction]
    image: Picture | None

    @property
    def mean(self) -> float:
        """Mean RMSE over the runs."""
        return fmean(self.rmse.values())


def hardest_windows(files: Sequence[RunFiles]) -> list[Hard]:
    """Return at most NUM_SHOWN windows, highest mean RMSE over runs first.

    Candidates are the windows that at least one run lists in its ``hardest.json``. The mean is over every run that
    measured the window, which is all of them where they wrote ``val_windows.csv``.
    """
    listed: dict[WindowKey, list[tuple[RunFiles, HardWindow]]] = {}
    for file in files:
        for window in file.hardest:
            listed.setdefault(window.key, []).append((file, window))
    ranked = sorted(((_rmse(key, files, named), key) for key, named in listed.items()), key=_hardest_first)
    return [_hard(rmse, listed[key]) for rmse, key in ranked[:NUM_SHOWN]]


def hardest_table(windows: Sequence[Hard]) -> dict[str, list[Value]]:
    """Return one row a window and run."""
    rows: list[Sequence[Value]] = [
        [*hard.window.key, hard.window.scenario, hard.window.phase, label, seed, rmse]
        for hard in windows
        for (label, seed), rmse in hard.rmse.items()
    ]
    return tidy(["episode", "frame", "scenario", "phase", "sampler", "seed", "rmse"], rows)


def hardest_notes(files: Sequence[RunFiles]) -> list[str]:
    """Say what is missing or damaged."""
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
