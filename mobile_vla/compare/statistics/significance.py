"""Compute p values of paired differences, Holm's correction for many comparisons, and the detectable difference.

The array functions work on the last axis and in parallel over all other axes, so that the simulation that validates
them can run exactly the code of a comparison.

The decision rule: a difference is *sure* if the p value of its paired t test, adjusted by Holm over all planned
comparisons (with the baseline and with controls), is below 0.05 and at least 5 seeds are paired. With fewer seeds it is
at best *indicative*. The t test decides and not the sign-flip test, because 5 seeds have only 32 sign flips: the
smallest p of that test is 0.0625, and after Holm's correction over ten samplers, 9 seeds are necessary to claim
anything. The disadvantage of the t test is that it assumes normal differences. Its effect was simulated
(``experiments/statistics``) for eight noise distributions, from normal to heavy-tailed, skewed and two-valued. The rate
of false positives stays at its level with 5 or more seeds; with 3 seeds, two-valued noise exceeds it after Holm. The
sign-flip p is reported as well, because it assumes only symmetry.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.05

POWER = 0.8
"""The probability of finding a true difference that ``detectable_difference`` assumes."""

MAX_EXACT_SEEDS = 20
"""With more seeds, ``flip_p_values`` draws NUM_RANDOM_FLIPS random flips instead of counting all 2^n."""

NUM_RANDOM_FLIPS = 100_000

ROUNDING = 1e-12
"""Relative to the size of the differences: anything smaller is a rounding error."""


def t_p_values(differences: ArrayLike) -> NDArray[np.float64]:
    """Return the two-sided p of the paired t test of ``differences [..., n]``, n at least 2.

    If all n differences are equal up to rounding, their standard error is 0 and the t test would give p = 0 or NaN.
    This happens for success rates over few drives and for samplers that change nothing, so in this case the p of
    ``flip_p_values`` is returned.
    """
    # scipy.special has the same distribution as scipy.stats and is imported several times faster.
    from scipy.special import stdtr

    differences = np.asarray(differences, dtype=np.float64)
    num = differences.shape[-1]
    centre, error = differences.mean(axis=-1), differences.std(axis=-1, ddof=1) / num**0.5
    are_equal = error <= ROUNDING * np.abs(differences).max(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p_values = 2 * stdtr(num - 1, -np.abs(centre / error))
    return np.where(are_equal, flip_p_values(differences), p_values) if are_equal.any() else p_values


def flip_p_values(differences: ArrayLike) -> NDArray[np.float64]:
    """Return the two-sided sign-flip p of ``differences [..., n]``, n at least 1.

    It is the share of all 2^n ways to flip their signs whose total is at least as far from 0 as the observed total
    (Fisher, The Design of Experiments, 1935, section 21), so it is never below 2 / 2^n. With more than MAX_EXACT_SEEDS
    differences it is estimated from NUM_RANDOM_FLIPS random flips with a fixed seed, plus the observed signs (Phipson
    and Smyth 2010). The test is valid if a difference of x is as likely as one of -x, which is true for a treatment
    without effect.
    """
    differences = np.asarray(differences, dtype=np.float64)
    num = differences.shape[-1]
    # Lowered by the rounding error: totals that are mathematically equal must count as "at least as far from 0".
    seen = np.abs(differences.sum(axis=-1, keepdims=True)) - ROUNDING * np.abs(differences).sum(axis=-1, keepdims=True)
    if num > MAX_EXACT_SEEDS:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(num, NUM_RANDOM_FLIPS))
        count = (np.abs(differences @ signs) >= seen).sum(axis=-1)
        return (count + 1) / (NUM_RANDOM_FLIPS + 1)
    # A flip and its opposite are equally far from 0, so the first sign is kept fixed: half of the flips are enough.
    totals = differences[..., :1]
    for index in range(1, num):
        one = differences[..., index : index + 1]
        totals = np.concatenate([totals + one, totals - one], axis=-1)
    return (np.abs(totals) >= seen).mean(axis=-1)


def holm(p_values: ArrayLike, *, num_tests: int | None = None) -> NDArray[np.float64]:
    """Return ``p_values [..., m]`` adjusted for multiple tests by Holm's method.

    If all adjusted values below a level are called significant, the probability of at least one false positive is at
    most that level. ``num_tests`` is the number of tests; it is larger than m if some tests have no p value yet.
    Without it, a user who repeats the comparison while samplers finish one after another would get false positives
    three times as often as the level says. The method is valid for tests that depend on each other in any way, such as
    tests with a common baseline (Holm, A simple sequentially rejective multiple test procedure, 1979).
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    num = p_values.shape[-1]
    assert num_tests is None or num_tests >= num
    order = np.argsort(p_values, axis=-1)
    factors = (num if num_tests is None else num_tests) - np.arange(num)
    adjusted = np.take_along_axis(p_values, order, axis=-1) * factors
    # The running maximum keeps the order: a larger p value must not get a smaller adjusted one.
    adjusted = np.minimum(1.0, np.maximum.accumulate(adjusted, axis=-1))
    result = np.empty_like(adjusted)
    np.put_along_axis(result, order, adjusted, axis=-1)
    return result


def detectable_difference(spread: float, *, num_pairs: int, num_comparisons: int) -> float:
    """Return the smallest true difference that a paired t test finds with probability POWER.

    ``spread`` is the standard deviation of the differences over seeds. The level is LEVEL / ``num_comparisons``, the
    first and strictest step of Holm's method. If other true differences exist as well, a slightly smaller one is found
    too.
    """
    from scipy.special import nctdtrinc, stdtrit

    # Under a true difference the t statistic has a noncentral t distribution. nctdtrinc returns the noncentrality at
    # which it stays below the critical value with probability 1 - POWER. The opposite tail is negligible.
    freedom = num_pairs - 1
    critical = -float(stdtrit(freedom, LEVEL / num_comparisons / 2))
    return float(nctdtrinc(freedom, 1 - POWER, critical)) * spread / num_pairs**0.5
