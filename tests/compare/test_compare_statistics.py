"""Paired statistics agree with scipy's paired t test and know what they do not know."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from mobile_vla.compare.statistics import mean, paired_difference, standard_deviation

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
    assert result.interval == pytest.approx((shared, shared), abs=1e-8)


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


def test_false_wins_without_an_effect_are_five_percent() -> None:
    rng, trials = np.random.default_rng(0), 2000
    draws = rng.normal(size=(trials, 2, 5))
    wins = sum(paired_difference(dict(enumerate(a)), dict(enumerate(b))).excludes_zero for a, b in draws)
    assert abs(wins / trials - 0.05) < 3 * math.sqrt(0.05 * 0.95 / trials)
