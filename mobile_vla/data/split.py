"""Split episodes into train, val and unseen, once, from the split's own seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mobile_vla.data.scenario import matches_selector
from mobile_vla.errors import ConfigError
from mobile_vla.schema import Episode
from mobile_vla.streams import Stream


@dataclass(frozen=True, kw_only=True)
class Split:
    """Episode names by part, each sorted. ``unseen`` holds every episode of the scenarios kept from training.

    Where fewer than all train episodes are asked for, the others are in no part. ``inner`` is held out of train for
    whoever tunes, so that val stays unseen until the end.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    unseen: tuple[str, ...]
    inner: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = [*self.train, *self.val, *self.unseen, *self.inner]
        assert len(parts) == len(set(parts)), "an episode stands in two parts of the split"

    @property
    def hash(self) -> str:
        """Short digest of who is where."""
        return hashlib.blake2b(json.dumps(self._parts()).encode(), digest_size=8).hexdigest()

    def write(self, path: Path) -> None:
        """Write the manifest: the lists and their hash."""
        path.write_text(json.dumps({"hash": self.hash, **self._parts()}, indent=1) + "\n")

    def _parts(self) -> dict[str, tuple[str, ...]]:
        # A split without inner episodes is what it was before there were any.
        return {part: names for part, names in asdict(self).items() if part != "inner" or names}


def split_episodes(
    episodes: Sequence[Episode],
    *,
    val_fraction: float,
    seed: int,
    unseen: Sequence[str] = (),
    train_episodes: int | None = None,
) -> Split:
    """Split by episode, every scenario in proportion.

    ``unseen`` selects whole scenarios (``2box_hori_left``) or fields (``distance=far``) that neither train nor val may
    hold. Of the rest, round(val_fraction * n) episodes go to val, shared out over the scenarios by largest remainder
    and drawn by ``seed`` alone. The order of ``episodes`` does not matter. ``train_episodes`` keeps that many of what
    is left for train: see ``_keep``; val and unseen do not depend on it. ``ConfigError`` when train or val would be
    empty, or when there are fewer than ``train_episodes``.
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
    train: dict[str, list[str]] = {}
    val: list[str] = []
    for scenario, count in zip(scenarios, num_val, strict=True):
        names = np.array(by_scenario[scenario])
        shuffled = Stream(seed, f"split/{scenario}").at(0).permutation(names).tolist()
        val += shuffled[:count]
        train[scenario] = shuffled[count:]
    num_train = sum(map(len, train.values()))
    if not num_train or not val:
        raise ConfigError(
            f"dataset.val_fraction={val_fraction} leaves {num_train} train and {len(val)} val episodes of "
            f"{len(episodes)} ({len(held_out)} held out by dataset.unseen); both need at least one. "
            "Change the fraction or add episodes."
        )
    if train_episodes is not None and train_episodes > num_train:
        raise ConfigError(
            f"dataset.train_episodes={train_episodes}: the split leaves {num_train} episodes to train on; ask for no "
            "more than that, or for all of them with null."
        )
    kept = _keep(train, num_train if train_episodes is None else train_episodes)
    return Split(train=tuple(sorted(kept)), val=tuple(sorted(val)), unseen=tuple(sorted(held_out)))


def hold_out_inner(split: Split, episodes: Sequence[Episode], *, fraction: float, seed: int) -> Split:
    """Return ``split`` with round(fraction * n) of its n train episodes in ``inner``, every scenario in proportion.

    They are drawn by ``seed`` alone; val and unseen stay. ``ConfigError`` when train or inner would be empty.
    """
    train = [episode for episode in episodes if episode.name in set(split.train)]
    try:
        drawn = split_episodes(train, val_fraction=fraction, seed=Stream(seed, "inner").integer(0))
    except ConfigError as error:
        raise ConfigError(
            f"dataset.inner_fraction={fraction} of {len(train)} train episodes leaves none to train on, or none to "
            "tune by. Change the fraction or add episodes."
        ) from error
    return replace(split, train=drawn.train, inner=drawn.val)


def _keep(train: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """Return ``count`` train episodes, of every scenario the first ones of its list, in proportion.

    Every scenario has one before any has two, the commonest first. Sainte-Lague's divisors decide, not the largest
    remainders, by which a scenario can lose an episode as ``count`` grows: here fewer are always a part of more.
    """
    in_turn = sorted(
        (place > 0, (place + 0.5) / len(names), scenario, name)
        for scenario, names in train.items()
        for place, name in enumerate(names)
    )
    return [name for *_, name in in_turn[:count]]


def _largest_remainder(shares: np.ndarray, *, total: int) -> np.ndarray:
    counts = np.floor(shares).astype(int)
    order = np.argsort(-(shares - counts), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts
