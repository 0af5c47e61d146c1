"""Compute p values of paired differences, their correction for many comparisons, and what could have been found.

The array functions work on the last axis and over all others at once, so that the simulation which checks them runs the
code that a comparison runs.

Which number decides. A difference is *sure* when the p value of its paired t test, adjusted by Holm over all planned
comparisons, with the baseline and with controls, is below 0.05 and at least 5 seeds are paired; with fewer it is
*indicative* at best. The t test and not the sign-flip test decides, because 5 seeds have only 32 ways to flip: the
smallest p of that test is 0.0625, and after Holm over ten samplers it takes 9 seeds to claim anything. The price is the
assumption of normal differences. What it costs was simulated (``experiments/statistics``): among eight shapes of noise,
normal to heavy-tailed, skewed and two-valued, false wins stay at their level from 5 seeds on, and with 3 seeds
two-valued noise exceeds it after Holm. The sign-flip p stands beside the claim: it assumes symmetry alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.05

POWER = 0.8
"""The chance of finding a difference that ``detectable_difference`` asks for."""

MAX_EXACT_SEEDS = 20
"""Above it, ``flip_p_values`` draws NUM_RANDOM_FLIPS flips instead of counting all 2^n."""

NUM_RANDOM_FLIPS = 100_000

ROUNDING = 1e-12
"""Relative to the sizes of the differences: what differs by less does so by rounding."""


def t_p_values(differences: ArrayLike) -> NDArray[np.float64]:
    """Return the two-sided p of the paired t test of ``differences [..., n]``, n at least 2.

    Where all n are equal to the last digits the t test knows no error and would be certain of anything. That happens to
    rates of few drives and to samplers that change nothing, so there the p is that of ``flip_p_values``.
    """
    # scipy.special holds the same distribution as scipy.stats and loads several times faster.
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

    It is the share of all 2^n ways to flip their signs whose total is at least as far from 0 as the one seen (Fisher,
    The Design of Experiments, 1935, section 21), so it is never below 2 / 2^n. Above MAX_EXACT_SEEDS it is estimated
    from NUM_RANDOM_FLIPS flips of a fixed seed, the one seen included (Phipson and Smyth 2010). It holds where a
    difference of x is as likely as one of -x, as it is for a treatment that does nothing.
    """
    differences = np.asarray(differences, dtype=np.float64)
    num = differences.shape[-1]
    seen = np.abs(differences.sum(axis=-1, keepdims=True)) - ROUNDING * np.abs(differences).sum(axis=-1, keepdims=True)
    if num > MAX_EXACT_SEEDS:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(num, NUM_RANDOM_FLIPS))
        count = (np.abs(differences @ signs) >= seen).sum(axis=-1)
        return (count + 1) / (NUM_RANDOM_FLIPS + 1)
    # A flip and its opposite are equally far from 0, so the first sign can stay.
    totals = differences[..., :1]
    for index in range(1, num):
        one = differences[..., index : index + 1]
        totals = np.concatenate([totals + one, totals - one], axis=-1)
    return (np.abs(totals) >= seen).mean(axis=-1)


def holm(p_values: ArrayLike, *, num_tests: int | None = None) -> NDArray[np.float64]:
    """Adjust ``p_values [..., m]`` for being looks: those below a level are together wrong at most at that level.

    ``num_tests`` counts the looks, m unless there are more that have no p yet: else who looks again and again while
    samplers finish one after another would find something three times as often as the level says. Valid however the
    tests depend on each other, as those do that share a baseline (Holm, A simple sequentially rejective multiple test
    procedure, 1979).
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    num = p_values.shape[-1]
    assert num_tests is None or num_tests >= num
    order = np.argsort(p_values, axis=-1)
    factors = (num if num_tests is None else num_tests) - np.arange(num)
    adjusted = np.take_along_axis(p_values, order, axis=-1) * factors
    adjusted = np.minimum(1.0, np.maximum.accumulate(adjusted, axis=-1))
    result = np.empty_like(adjusted)
    np.put_along_axis(result, order, adjusted, axis=-1)
    return result


def detectable_difference(spread: float, *, num_pairs: int, num_comparisons: int) -> float:
    """Return the smallest true difference that a paired t test finds with probability POWER.

    ``spread`` is the standard deviation of the differences over seeds. The level is LEVEL / ``num_comparisons``, the
    first and hardest step of Holm, so with other true differences beside it a somewhat smaller one is found as well.
    """
    from scipy.special import nctdtrinc, stdtrit

    freedom = num_pairs - 1
    critical = -float(stdtrit(freedom, LEVEL / num_comparisons / 2))
    return float(nctdtrinc(freedom, 1 - POWER, critical)) * spread / num_pairs**0.5
