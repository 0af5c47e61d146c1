"""Compare two treatments' runs, paired by seed: each treatment with the baseline, and some with a control."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mobile_vla.compare.data.closed_loop import comparable_seeds
from mobile_vla.compare.data.episode_errors import EpisodeErrors, episode_interval, load_episode_errors
from mobile_vla.compare.data.runs import RunRecord
from mobile_vla.compare.statistics.estimates import PairedDifference, paired_difference
from mobile_vla.compare.statistics.significance import holm
from mobile_vla.metrics import ERROR, SCALED_ERROR

Finished = Mapping[str, Mapping[int, RunRecord]]
"""The finished runs by label and seed."""

Pair = tuple[str, str]
"""Two labels: the first is compared with the second."""


@dataclass(frozen=True, kw_only=True)
class ControlPair:
    """A treatment and its control as the study named them, and their difference in the primary metric.

    ``difference`` is empty (no pairs) if a label has no finished run or no run at all.
    """

    label: str
    control: str
    difference: PairedDifference


def metric_difference(
    treatment: Mapping[int, RunRecord], reference: Mapping[int, RunRecord], name: str
) -> PairedDifference:
    """Return the paired difference of two treatments' runs (by seed) in metric ``name``, over the comparable seeds."""
    seeds = comparable_seeds(treatment, reference, name)
    one, other = ({seed: side[seed] for seed in seeds} for side in (treatment, reference))
    return paired_difference(values_of(one, name), values_of(other, name))


def values_of(runs: Mapping[int, RunRecord], name: str) -> dict[int, float]:
    """Return the values of metric ``name`` by seed, for the runs that have it."""
    return {seed: run.numbers[name] for seed, run in runs.items() if name in run.numbers}


def primary_differences(
    finished: Finished, primary: str, *, baseline: str, controls: Mapping[str, str]
) -> dict[Pair, PairedDifference]:
    """Return the differences of every label to ``baseline`` and of every key of ``controls`` to its value.

    All of them are one family of tests. Unlike the differences in other metrics they have an adjusted p value (Holm,
    over ``num_tests`` comparisons) and the interval over val episodes.
    """
    pairs = dict.fromkeys([*((label, baseline) for label in finished if label != baseline), *controls.items()])
    sides = {(one, other): (finished.get(one, {}), finished.get(other, {})) for one, other in pairs}
    found = {pair: metric_difference(*both, primary) for pair, both in sides.items()}
    # A pair and its reverse (for example if the baseline itself has a control) are one test with one p value, so the
    # keys are sets.
    p_values = {frozenset(pair): one.t_p_value for pair, one in found.items() if one.t_p_value is not None}
    adjusted_p_values = holm(list(p_values.values()), num_tests=num_tests(pairs, finished)).tolist()
    adjusted = dict(zip(p_values, adjusted_p_values, strict=True))
    errors = _episode_errors(finished, primary) if primary in (ERROR, SCALED_ERROR) else {}
    return {
        pair: replace(
            difference,
            adjusted_p_value=adjusted.get(frozenset(pair)),
            episode_interval=episode_interval(*sides[pair], errors),
        )
        for pair, difference in found.items()
    }


def within_settings(labels: Collection[str], baseline: str) -> dict[str, str]:
    """Return the baseline of each label under the same other choices, where no run is the baseline alone.

    In a sweep over samplers and ``model.state``, ``stratified, model.state=none`` is held against ``shuffled,
    model.state=none``.
    """
    if baseline in labels:
        return {}
    parts = {label: label.partition(", ") for label in labels}
    own = {
        label: f"{baseline}, {others}" for label, (first, comma, others) in parts.items() if comma and first != baseline
    }
    return {label: control for label, control in own.items() if control in labels}


def num_tests(pairs: Iterable[Pair], labels: Collection[str]) -> int:
    """Return the number of comparisons among ``labels``, including those without a value yet.

    A pair and its reverse count once. A pair with a label that no job has does not count, because nothing is tested.
    """
    return len({frozenset(pair) for pair in pairs if all(label in labels for label in pair)})


def _episode_errors(finished: Finished, error: str) -> dict[Path, EpisodeErrors | None]:
    return {run.folder: load_episode_errors(run, error=error) for runs in finished.values() for run in runs.values()}
