"""Divide the train episodes into folds, and build the data set of one fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mobile_vla.data.batches import WindowReader
from mobile_vla.data.dataset import Dataset, OpenDataset
from mobile_vla.data.split import Split
from mobile_vla.data.windows import build_windows
from mobile_vla.errors import ConfigError
from mobile_vla.schema import Episode
from mobile_vla.streams import Stream


def deal_folds(episodes: Sequence[Episode], *, num_folds: int, seed: int) -> list[tuple[str, ...]]:
    """Return the sorted names of the episodes of each fold: every episode in one fold, at least one in every fold.

    The episodes are shuffled within each scenario (which depends only on ``seed``) and then dealt to the folds in turn,
    one scenario after another. So the sizes of the folds differ by at most one episode, and so does the number of a
    scenario's episodes in them. Raises ``ConfigError`` if there are more folds than episodes, or fewer than two folds.
    """
    if not 2 <= num_folds <= len(episodes):
        raise ConfigError(
            f"--folds {num_folds}: expected 2 or more, and at most as many as there are train episodes with a window "
            f"({len(episodes)})"
        )
    by_scenario: dict[str, list[str]] = {}
    for episode in sorted(episodes, key=lambda e: e.name):
        by_scenario.setdefault(episode.scenario, []).append(episode.name)
    dealt = [
        name
        for scenario in sorted(by_scenario)
        for name in Stream(seed, f"folds/{scenario}").at(0).permutation(by_scenario[scenario]).tolist()
    ]
    return [tuple(sorted(dealt[fold::num_folds])) for fold in range(num_folds)]


def hold_out(data: OpenDataset, dataset: Dataset, *, train: Sequence[str], val: Sequence[str]) -> OpenDataset:
    """Return ``data`` with only the splits ``train`` and ``val``; in both, episodes must have a window."""
    readers = {part: _reader(data, dataset, names) for part, names in (("train", train), ("val", val))}
    return replace(
        data,
        split=Split(train=tuple(train), val=tuple(val), unseen=()),
        windows={part: reader.windows for part, reader in readers.items()},
        readers=readers,
    )


def _reader(data: OpenDataset, dataset: Dataset, names: Sequence[str]) -> WindowReader:
    windows = build_windows(
        [data.episodes[name] for name in names],
        window_size=dataset.window_size,
        fwd_pred_next_n=dataset.fwd_pred_next_n,
        padding=dataset.padding,
    )
    return WindowReader(
        windows=windows,
        episodes=data.episodes,
        frames=data.frames,
        window_size=dataset.window_size,
        fwd_pred_next_n=dataset.fwd_pred_next_n,
    )
