"""Split episodes into train, val and unseen, once, from the split's own seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mobile_vla.data.scenario import matches_selector
from mobile_vla.errors import ConfigError
from mobile_vla.schema import Episode
from mobile_vla.streams import Stream


@dataclass(frozen=True, kw_only=True)
class Split:
    """Episode names by part, each sorted. ``unseen`` holds every episode of the scenarios kept from training."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    unseen: tuple[str, ...]

    def __post_init__(self) -> None:
        parts = [*self.train, *self.val, *self.unseen]
        assert len(parts) == len(set(parts)), "an episode stands in two parts of the split"

    @property
    def hash(self) -> str:
        """Short digest of who is where."""
        return hashlib.blake2b(json.dumps(asdict(self)).encode(), digest_size=8).hexdigest()

    def write(self, path: Path) -> None:
        """Write the manifest: the three lists and their hash."""
        path.write_text(json.dumps({"hash": self.hash, **asdict(self)}, indent=1) + "\n")


def split_episodes(episodes: Sequence[Episode], *, val_fraction: float, seed: int, unseen: Sequence[str] = ()) -> Split:
    """Split by episode, every scenario in proportion.

    ``unseen`` selects whole scenarios (``2box_hori_left``) or fields (``distance=far``) that neither train nor val may
    hold. Of the rest, round(val_fraction * n) episodes go to val, shared out over the scenarios by largest remainder
    and drawn by ``seed`` alone. The order of ``episodes`` does not matter. ``ConfigError`` when train or val would be
    empty.
    """
    for selector in unseen:
        if not any(matches_selector(selector, scenario=e.scenario, fields=e.fields) for e in episodes):
            raise ConfigError(
                f"dataset.unseen: '{selector}' matches no episode; scenarios are "
                f"{', '.join(sorted({e.scenario for e in episodes}))}. Give one of them, or a field of the file names, "
                "quoted: \"dataset.unseen=['distance=far']\"."
            )
    held_out = {
        e.name for e in episodes if any(matches_selector(u, scenario=e.scenario, fields=e.fields) for u in unseen)
    }
    by_scenario: dict[str, list[str]] = {}
    for episode in sorted(episodes, key=lambda e: e.name):
        if episode.name not in held_out:
            by_scenario.setdefault(episode.scenario, []).append(episode.name)
    scenarios = sorted(by_scenario)
    sizes = np.array([len(by_scenario[s]) for s in scenarios])
    num_val = _largest_remainder(sizes * val_fraction, total=round(val_fraction * int(sizes.sum())))
    train: list[str] = []
    val: list[str] = []
    for scenario, count in zip(scenarios, num_val, strict=True):
        names = np.array(by_scenario[scenario])
        shuffled = Stream(seed, f"split/{scenario}").at(0).permutation(names).tolist()
        val += shuffled[:count]
        train += shuffled[count:]
    if not train or not val:
        raise ConfigError(
            f"dataset.val_fraction={val_fraction} leaves {len(train)} train and {len(val)} val episodes of "
            f"{len(episodes)} ({len(held_out)} held out by dataset.unseen); both need at least one. "
            "Change the fraction or add episodes."
        )
    return Split(train=tuple(sorted(train)), val=tuple(sorted(val)), unseen=tuple(sorted(held_out)))


def _largest_remainder(shares: np.ndarray, *, total: int) -> np.ndarray:
    counts = np.floor(shares).astype(int)
    order = np.argsort(-(shares - counts), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts
