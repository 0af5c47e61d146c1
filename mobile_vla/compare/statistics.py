"""Say how far apart paired runs are and how sure that is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95

MIN_SEEDS = 5
"""Below this many seeds a result is only indicative."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Mean of (treatment - baseline) over the ``num_pairs`` seeds both have, with its two-sided 95 % t interval.

    ``mean`` is None without a pair, ``interval`` (low, high) with fewer than two.
    """

    mean: float | None
    interval: tuple[float, float] | None
    num_pairs: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval exists and lies on one side of 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def mean(values: Collection[float]) -> float | None:
    """Return the arithmetic mean, None of nothing."""
    return float(np.mean(list(values))) if values else None


def standard_deviation(values: Collection[float]) -> float | None:
    """Return the sample standard deviation (ddof 1), None of fewer than two values."""
    return float(np.std(list(values), ddof=1)) if len(values) > 1 else None


def paired_difference(treatment: Mapping[int, float], baseline: Mapping[int, float]) -> PairedDifference:
    """Compare two treatments by seed; seeds that only one of them has are left out.

    The interval is that of the paired t test: it assumes differences that are roughly normal over seeds, and it is for
    this comparison alone, not corrected for others made beside it.
    """
    differences = [treatment[seed] - baseline[seed] for seed in sorted(treatment.keys() & baseline.keys())]
    centre, spread, num_pairs = mean(differences), standard_deviation(differences), len(differences)
    if centre is None or spread is None:
        return PairedDifference(mean=centre, interval=None, num_pairs=num_pairs)
    # scipy.special holds the same quantile as scipy.stats and loads several times faster.
    from scipy.special import stdtrit

    half_width = float(stdtrit(num_pairs - 1, 0.5 + CONFIDENCE / 2)) * spread / num_pairs**0.5
    return PairedDifference(mean=centre, interval=(centre - half_width, centre + half_width), num_pairs=num_pairs)


def sign_flip_p_value(sums: Iterable[int]) -> float:
    """Return the two-sided p value of independent ``sums`` of differences having no direction.

    It is the share of all 2^n ways to flip the signs of the n sums whose total is at least as far from 0 as the one
    seen, counted exactly (Fisher's randomisation test for pairs: The Design of Experiments, 1935, section 21).
    Differences that may depend on each other go into one sum. With single differences of -1, 0 and 1 it is McNemar's
    exact test.

    The hypothesis is that each sum is as likely to be x as -x; for "the mean is 0" alone it holds only with many sums.
    It is for this comparison alone, not corrected for others made beside it.
    """
    flippable = [total for total in sums if total]
    sizes = [abs(total) for total in flippable]
    seen, reach = abs(sum(flippable)), sum(sizes)
    probabilities = np.ones(1)  # of the totals -reach..reach of the sums so far
    for size in sizes:
        gap = np.zeros(2 * size)
        probabilities = (np.concatenate([probabilities, gap]) + np.concatenate([gap, probabilities])) / 2
    return float(min(1.0, probabilities[np.abs(np.arange(-reach, reach + 1)) >= seen].sum()))
