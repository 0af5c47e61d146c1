"""Paired statistics agree with scipy's paired t and sign tests and know what they do not know."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest, trim_mean, ttest_rel

from mobile_vla.compare.statistics.estimates import (
    interquartile_mean,
    mean,
    paired_difference,
    probability_of_improvement,
    sign_flip_p_value,
    standard_deviation,
)

VALUES = st.floats(min_value=1e-3, max_value=1e3)


@given(pairs=st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=12), seeds=st.randoms())
def test_interval_is_that_of_the_paired_t_test(pairs, seeds) -> None:
    treatment = {seed: pair[0] for seed, pair in enumerate(pairs)}
    baseline = {seed: pair[1] for seed, pair in enumerate(pairs)}
    order = list(baseline)
    seeds.shuffle(order)
    result = paired_difference(treatment, {seed: baseline[seed] for seed in order})
    differences = np.subtract(*np.array(pairs).T)
    assume(np.std(differences) > 1e-9)
    expected = ttest_rel(*np.array(pairs).T).confidence_interval(0.95)
    assert result.num_pairs == len(pairs)
    assert result.mean == pytest.approx(differences.mean(), rel=1e-9, abs=1e-9)
    assert result.interval == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)


@given(shared=st.floats(-100, 100), values=st.lists(VALUES, min_size=2, max_size=8))
def test_what_a_seed_does_to_both_cancels(shared: float, values: list[float]) -> None:
    baseline = {seed: value * (1 + seed) for seed, value in enumerate(values)}
    result = paired_difference({seed: value + shared for seed, value in baseline.items()}, baseline)
    assert result.mean == pytest.approx(shared, abs=1e-9)
    assert result.interval is None or result.interval == pytest.approx((shared, shared), abs=1e-8)


def test_only_shared_seeds_count() -> None:
    result = paired_difference({0: 1.0, 1: 5.0, 7: 100.0}, {1: 4.0, 0: 2.0, 9: -100.0})
    assert (result.mean, result.num_pairs) == (0.0, 2)


def test_one_pair_has_a_difference_and_no_interval() -> None:
    result = paired_difference({0: 1.0, 1: 5.0}, {1: 4.0})
    assert (result.mean, result.interval, result.num_pairs) == (1.0, None, 1)
    assert not result.excludes_zero


def test_nothing_shared_is_nothing_known() -> None:
    result = paired_difference({0: 1.0}, {1: 4.0})
    assert (result.mean, result.interval, result.num_pairs) == (None, None, 0)


def test_mean_and_spread_of_too_few_are_missing_not_zero() -> None:
    assert mean([]) is None
    assert standard_deviation([1.0]) is None
    assert standard_deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))


SUMS = st.lists(st.integers(-5, 5), max_size=8)


@given(sums=SUMS)
def test_sign_flip_is_the_share_of_all_flips_that_go_as_far(sums: list[int]) -> None:
    flips = [abs(sum(sign * size for sign, size in zip(signs, sums, strict=True))) for signs in _signs(len(sums))]
    assert sign_flip_p_value(sums) == pytest.approx(np.mean([flip >= abs(sum(sums)) for flip in flips]))


@given(wins=st.integers(0, 60), losses=st.integers(0, 60), ties=st.integers(0, 5))
def test_sign_flip_of_single_drives_is_the_exact_mcnemar_test(wins: int, losses: int, ties: int) -> None:
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_flip_p_value([1] * wins + [-1] * losses + [0] * ties) == pytest.approx(expected)


@given(sums=SUMS, order=st.randoms())
def test_sign_flip_sees_neither_order_nor_sign_nor_scale(sums: list[int], order) -> None:
    shuffled = list(sums)
    order.shuffle(shuffled)
    assert sign_flip_p_value(shuffled) == pytest.approx(sign_flip_p_value(sums))
    assert sign_flip_p_value([-3 * size for size in sums]) == pytest.approx(sign_flip_p_value(sums))


def test_seeds_of_one_state_are_not_taken_for_independent() -> None:
    """40 states, in each of which five seeds do the same: five times the drives prove no more."""
    one_seed = [1] * 24 + [-1] * 16
    assert sign_flip_p_value([5 * size for size in one_seed]) == pytest.approx(sign_flip_p_value(one_seed))
    assert sign_flip_p_value(one_seed * 5) < 0.01 < 0.2 < sign_flip_p_value(one_seed)


def test_false_wins_over_states_are_at_most_five_percent() -> None:
    rng, trials = np.random.default_rng(0), 1000
    hardness = rng.normal(size=(trials, 60, 1))
    drives = rng.normal(size=(2, trials, 60, 5)) + hardness + rng.normal(size=(2, trials, 60, 1)) > 0
    sums = drives[0].sum(-1, dtype=int) - drives[1].sum(-1, dtype=int)
    wins = sum(sign_flip_p_value(row.tolist()) < 0.05 for row in sums)
    assert wins / trials < 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def _signs(num: int):
    return product((-1, 1), repeat=num)


@given(values=st.lists(VALUES, min_size=1, max_size=20))
def test_interquartile_mean_is_scipys_trimmed_mean(values: list[float]) -> None:
    assert interquartile_mean(values) == pytest.approx(trim_mean(values, 0.25))


SOME = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=6)


@given(one=SOME, other=SOME)
def test_improvement_is_the_share_of_pairs_won_with_ties_half(one: list[float], other: list[float]) -> None:
    won = [(a < b) + 0.5 * (a == b) for a in one for b in other]
    result = probability_of_improvement(one, other, direction="lower")
    assert result == pytest.approx(np.mean(won))
    assert probability_of_improvement(one, other, direction="higher") == pytest.approx(1 - np.mean(won))
    assert probability_of_improvement(one, one, direction="lower") == 0.5


def test_improvement_over_nothing_is_missing() -> None:
    assert probability_of_improvement([1.0], [], direction="lower") is None
    assert probability_of_improvement([1.0], [2.0], direction=None) is None
    assert interquartile_mean([]) is None
