"""Hold two samplers' runs against each other, seed by seed: each against the baseline, and some against a control."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mobile_vla.compare.closed_loop import comparable_seeds
from mobile_vla.compare.episodes import EpisodeErrors, episode_interval, load_episode_errors
from mobile_vla.compare.runs import Run
from mobile_vla.compare.significance import holm
from mobile_vla.compare.statistics import PairedDifference, paired_difference
from mobile_vla.metrics import ERROR

Finished = Mapping[str, Mapping[int, Run]]
"""The finished runs by label and seed."""

Pair = tuple[str, str]
"""Two labels: the first is held against the second."""


@dataclass(frozen=True, kw_only=True)
class ControlPair:
    """A sampler and its control as the study named them, and their difference in the primary metric.

    ``difference`` is empty (no pairs) where a label has no finished run, or matches none at all.
    """

    label: str
    control: str
    difference: PairedDifference


def metric_difference(treatment: Mapping[int, Run], reference: Mapping[int, Run], name: str) -> PairedDifference:
    """Hold two samplers' runs (by seed) against each other in metric ``name``, over the seeds that allow it."""
    seeds = comparable_seeds(treatment, reference, name)
    one, other = ({seed: side[seed] for seed in seeds} for side in (treatment, reference))
    return paired_difference(values_of(one, name), values_of(other, name))


def values_of(runs: Mapping[int, Run], name: str) -> dict[int, float]:
    """Return metric ``name`` by seed, of the runs that have it."""
    return {seed: run.numbers[name] for seed, run in runs.items() if name in run.numbers}


def primary_differences(
    finished: Finished, primary: str, *, baseline: str, controls: Mapping[str, str]
) -> dict[Pair, PairedDifference]:
    """Hold every label against ``baseline`` and every key of ``controls`` against its value, in one family of tests.

    Each difference has what only those of the primary metric have: Holm's p over all of them (``num_tests``), and the
    interval over val episodes.
    """
    pairs = dict.fromkeys([*((label, baseline) for label in finished if label != baseline), *controls.items()])
    sides = {(one, other): (finished.get(one, {}), finished.get(other, {})) for one, other in pairs}
    found = {pair: metric_difference(*both, primary) for pair, both in sides.items()}
    p_values = {frozenset(pair): one.t_p_value for pair, one in found.items() if one.t_p_value is not None}
    adjusted_p_values = holm(list(p_values.values()), num_tests=num_tests(pairs, finished)).tolist()
    adjusted = dict(zip(p_values, adjusted_p_values, strict=True))
    errors = _episode_errors(finished) if primary == ERROR else {}
    return {
        pair: replace(
            difference,
            adjusted_p_value=adjusted.get(frozenset(pair)),
            episode_interval=episode_interval(*sides[pair], errors),
        )
        for pair, difference in found.items()
    }


def num_tests(pairs: Iterable[Pair], labels: Collection[str]) -> int:
    """Count the comparisons among ``labels``, those that have no value yet included, and a pair and its reverse once.

    A control that no job carries is no look at the data.
    """
    return len({frozenset(pair) for pair in pairs if all(label in labels for label in pair)})


def _episode_errors(finished: Finished) -> dict[Path, EpisodeErrors | None]:
    return {run.folder: load_episode_errors(run) for runs in finished.values() for run in runs.values()}
