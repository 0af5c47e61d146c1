"""The split of episodes into train, val and unseen, drawn from its own seed.

The seed is not the run's seed: all runs of a sweep over seeds then train and are measured on the same episodes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mobile_vla.data.labels.grammars import matches_selector
from mobile_vla.errors import ConfigError
from mobile_vla.schema import Episode
from mobile_vla.streams import Stream


@dataclass(frozen=True, kw_only=True)
class Split:
    """The episode names of each part, sorted. ``unseen`` holds every episode of the held-out scenarios.

    With ``train_episodes`` below the number available, the other train episodes are in no part. ``inner`` is held out
    of train for tuning, so that val is not used until the end.
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
        """A short digest of which episode is in which part."""
        return hashlib.blake2b(json.dumps(self._parts()).encode(), digest_size=8).hexdigest()

    def write(self, path: Path) -> None:
        """Write the split's manifest to ``path`` as JSON: the name lists and their hash."""
        path.write_text(json.dumps({"hash": self.hash, **self._parts()}, indent=1) + "\n")

    def _parts(self) -> dict[str, tuple[str, ...]]:
        # Without inner episodes the key is left out, so that the hash is the same as before `inner` existed.
        return {part: names for part, names in asdict(self).items() if part != "inner" or names}


def split_episodes(
    episodes: Sequence[Episode],
    *,
    val_fraction: float,
    seed: int,
    unseen: Sequence[str] = (),
    train_episodes: int | None = None,
    cut_by: str = "",
) -> Split:
    """Return a split by episode in which train and val have the scenarios in the same proportion.

    ``unseen`` selects whole scenarios (``2box_hori_left``) or fields (``distance=far``) that are held out of train and
    val. Of the n other episodes, round(val_fraction * n) go to val, distributed over the scenarios by largest remainder
    and drawn by ``seed`` alone. The order of ``episodes`` does not matter. ``train_episodes`` limits how many of the
    remaining episodes are used for train (see ``_keep``); val and unseen do not depend on it. Raises ``ConfigError``
    when train or val would be empty, or when there are fewer than ``train_episodes``; ``cut_by`` is then the option by
    which the format's recordings are cut into episodes, empty where they are not.
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
        # One stream per scenario: adding episodes to one scenario does not change the shuffle of the others.
        shuffled = Stream(seed, f"split/{scenario}").at(0).permutation(names).tolist()
        val += shuffled[:count]
        train[scenario] = shuffled[count:]
    num_train = sum(map(len, train.values()))
    if not num_train or not val:
        raise ConfigError(
            f"dataset.val_fraction={val_fraction} leaves {num_train} train and {len(val)} val episodes of "
            f"{len(episodes)} ({len(held_out)} held out by dataset.unseen); both need at least one. "
            f"{_remedy(len(episodes) - len(held_out), cut_by=cut_by)}"
        )
    if train_episodes is not None and train_episodes > num_train:
        raise ConfigError(
            f"dataset.train_episodes={train_episodes}: the split leaves {num_train} episodes to train on; ask for no "
            "more than that, or for all of them with null."
        )
    kept = _keep(train, num_train if train_episodes is None else train_episodes)
    return Split(train=tuple(sorted(kept)), val=tuple(sorted(val)), unseen=tuple(sorted(held_out)))


def hold_out_inner(split: Split, episodes: Sequence[Episode], *, fraction: float, seed: int) -> Split:
    """Return ``split`` with round(fraction * n) of its n train episodes moved to ``inner``, stratified by scenario.

    They are drawn by ``seed`` alone; val and unseen do not change. Raises ``ConfigError`` when train or inner would be
    empty.
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
    """Return ``count`` train episodes: the first ones of each scenario's list, with the scenarios in proportion.

    Every scenario gets one episode before any gets two; the most frequent scenario comes first. The episodes are
    distributed by Sainte-Lague divisors and not by largest remainder, because there a scenario can lose an episode when
    ``count`` grows. Here a smaller selection is always a subset of a larger one.
    """
    in_turn = sorted(
        (place > 0, (place + 0.5) / len(names), scenario, name)
        for scenario, names in train.items()
        for place, name in enumerate(names)
    )
    return [name for *_, name in in_turn[:count]]


def _remedy(num_episodes: int, *, cut_by: str) -> str:
    if num_episodes < 2:
        cutting = f", or cut it into several ({cut_by})" if cut_by else ""
        return f"At least two episodes are needed, as one is not split: add episodes{cutting}."
    return f"Set dataset.val_fraction={max(0.2, round(1 / num_episodes, 2)):g}, or add episodes."


def _largest_remainder(shares: np.ndarray, *, total: int) -> np.ndarray:
    """Return integers near ``shares`` that sum to ``total``: rounded down, plus 1 for the largest fractions."""
    counts = np.floor(shares).astype(int)
    order = np.argsort(-(shares - counts), kind="stable")  # stable: equal fractions go by scenario name
    counts[order[: total - counts.sum()]] += 1
    return counts
