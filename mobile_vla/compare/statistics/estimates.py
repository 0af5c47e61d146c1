"""Estimate the difference between paired runs and its uncertainty."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mobile_vla.compare.statistics.significance import LEVEL, ROUNDING, flip_p_values, t_p_values
from mobile_vla.metrics import Direction

CONFIDENCE = 0.95

MIN_SEEDS = 5
"""Below this many seeds a result is only indicative."""

TRIMMED = 0.25
"""The share of values that the interquartile mean leaves out at each end."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """The mean of (treatment - baseline) over the ``num_pairs`` common seeds, with its two-sided 95 % t interval.

    ``mean`` is None without a pair. ``spread`` (standard deviation of the differences), ``interval`` (low, high),
    ``t_p_value`` (paired t test) and ``p_value`` (exact sign-flip test) are None with fewer than two pairs.
    ``interval`` is also None if the difference is the same for every seed, because then there is no estimate of the
    random variation. None of these is corrected for other comparisons. ``adjusted_p_value`` is the p value of the
    paired t test, adjusted by Holm over all planned comparisons; only the primary metric has one.
    ``episode_interval`` is the 95 % interval over val episodes for these trained policies; None if the runs did not
    record their errors by window.
    """

    mean: float | None
    spread: float | None
    interval: tuple[float, float] | None
    num_pairs: int
    t_p_value: float | None
    p_value: float | None
    adjusted_p_value: float | None = None
    episode_interval: tuple[float, float] | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    @property
    def is_judged(self) -> bool:
        """Whether there are at least two pairs of seeds, so that a test is possible."""
        return self.num_pairs > 1

    @property
    def is_equal(self) -> bool:
        """Whether both sides are exactly equal for every seed."""
        return self.mean == 0 and self.spread == 0

    @property
    def is_significant(self) -> bool:
        """Whether the adjusted p is below 0.05, for any number of seeds."""
        return self.adjusted_p_value is not None and self.adjusted_p_value < LEVEL

    @property
    def is_indicative(self) -> bool:
        """Whether there are so few seeds that the result is only indicative."""
        return self.num_pairs < MIN_SEEDS

    @property
    def is_coloured(self) -> bool:
        """Whether better or worse is shown by colour: if sure; for secondary metrics, if the interval excludes 0."""
        return self.excludes_zero if self.adjusted_p_value is None else self.is_sure

    @property
    def is_sure(self) -> bool:
        """Whether a difference may be claimed: the adjusted p is below 0.05 and there are at least 5 pairs of seeds."""
        return self.is_significant and not self.is_indicative


def mean(values: Collection[float]) -> float | None:
    """Return the arithmetic mean; None without values."""
    return float(np.mean(list(values))) if values else None


def standard_deviation(values: Collection[float]) -> float | None:
    """Return the sample standard deviation (ddof 1); None with fewer than two values."""
    return float(np.std(list(values), ddof=1)) if len(values) > 1 else None


def interquartile_mean(values: Collection[float]) -> float | None:
    """Return the mean without the lowest and the highest quarter, each rounded down to whole values.

    Returns None without values. With fewer than four values nothing is left out. Source: Agarwal et al., Deep
    Reinforcement Learning at the Edge of the Statistical Precipice, 2021.
    """
    num_cut = int(TRIMMED * len(values))
    return mean(sorted(values)[num_cut : len(values) - num_cut])


def probability_of_improvement(
    treatment: Collection[float], baseline: Collection[float], *, direction: Direction | None
) -> float | None:
    """Return the share (0 to 1) of all pairs of runs in which ``treatment`` is better than ``baseline``; a tie is half.

    It uses every combination of runs and ignores the pairing by seed. Returns None if a side is empty or the metric has
    no direction. Source: Agarwal et al. 2021, as for ``interquartile_mean``.
    """
    if not treatment or not baseline or direction is None:
        return None
    gains = np.subtract.outer(list(treatment), list(baseline)) * (1 if direction == "higher" else -1)
    return float(np.mean((gains > 0) + 0.5 * (gains == 0)))


def paired_difference(treatment: Mapping[int, float], baseline: Mapping[int, float]) -> PairedDifference:
    """Return the difference between two treatments, paired by seed; seeds that only one of them has are left out.

    The interval and the t test assume that the differences are roughly normal over seeds.
    """
    differences = [treatment[seed] - baseline[seed] for seed in sorted(treatment.keys() & baseline.keys())]
    centre, spread, num_pairs = mean(differences), standard_deviation(differences), len(differences)
    if centre is None or spread is None:
        return PairedDifference(
            mean=centre, spread=None, interval=None, num_pairs=num_pairs, t_p_value=None, p_value=None
        )
    # scipy.special has the same quantile function as scipy.stats and is imported several times faster.
    from scipy.special import stdtrit

    half_width = float(stdtrit(num_pairs - 1, 0.5 + CONFIDENCE / 2)) * spread / num_pairs**0.5
    return PairedDifference(
        mean=centre,
        spread=spread,
        interval=(centre - half_width, centre + half_width) if spread > ROUNDING * abs(centre) else None,
        num_pairs=num_pairs,
        t_p_value=float(t_p_values(differences)),
        p_value=float(flip_p_values(differences)),
    )


def sign_flip_p_value(sums: Iterable[int]) -> float:
    """Return the two-sided p value of the sign-flip test for independent ``sums`` of differences.

    It is the share of all 2^n ways to flip the signs of the n sums whose total is at least as far from 0 as the
    observed total, counted exactly (Fisher's randomisation test for pairs: The Design of Experiments, 1935, section
    21). Differences that may depend on each other belong in one sum. If all sums are single differences of -1, 0 and 1,
    this is McNemar's exact test.

    The null hypothesis is that each sum is as likely to be x as -x. For the weaker hypothesis that the mean is 0, the
    test is valid only with many sums. The p value is not corrected for other comparisons.
    """
    flippable = [total for total in sums if total]
    sizes = [abs(total) for total in flippable]
    seen, reach = abs(sum(flippable)), sum(sizes)
    # The exact distribution of the total, by one convolution per sum. Enumerating 2^n flips is impossible for hundreds
    # of initial states.
    probabilities = np.ones(1)  # of each possible total of the sums so far, from lowest to highest
    for size in sizes:
        gap = np.zeros(2 * size)
        probabilities = (np.concatenate([probabilities, gap]) + np.concatenate([gap, probabilities])) / 2
    return float(min(1.0, probabilities[np.abs(np.arange(-reach, reach + 1)) >= seen].sum()))
