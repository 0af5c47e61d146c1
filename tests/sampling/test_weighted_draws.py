"""Check the draws in proportion to weights: fixed ones, those of a tree, and priorities that follow the scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tables import table

from mobile_vla.sampling.parts.priorities import Priorities
from mobile_vla.sampling.parts.sum_tree import SumTree
from mobile_vla.sampling.parts.weighted import FixedWeights
from mobile_vla.sampling.scores import Scores
from mobile_vla.streams import Stream

# Around the tree's widths of 64 and 64 * 64.
sizes = st.sampled_from([1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, 9000, 262_145])
seeds = st.integers(0, 2**16)
some = settings(max_examples=40)


def random_weights(size: int, seed: int) -> np.ndarray:
    """Return weights of very different sizes, many of them 0, at least one above."""
    random = np.random.default_rng(seed)
    weights = random.exponential(size=size) * 10.0 ** random.integers(-6, 6, size)
    weights[random.random(size) < random.choice([0.0, 0.5, 0.99])] = 0
    weights[random.integers(size)] = 1
    return weights.astype(np.float32)


@some
@given(size=sizes, seed=seeds)
def test_a_tree_finds_what_a_search_of_the_running_sum_finds(size: int, seed: int) -> None:
    weights = random_weights(size, seed)
    cumulative = np.cumsum(weights, dtype=np.float64)
    shares = np.random.default_rng(seed).random(500)
    mass = shares * cumulative[-1]
    tree = SumTree(weights)
    assert tree.total == pytest.approx(cumulative[-1], rel=1e-12)
    np.testing.assert_array_equal(tree.weights, weights)
    expected = np.searchsorted(cumulative, mass, side="right")
    # Where a share falls on the edge of a weight, rounding decides which side it is on.
    edge = np.minimum(
        np.abs(cumulative[expected] - mass), np.abs(np.where(expected, cumulative[expected - 1], 0) - mass)
    )
    is_clear = edge > 1e-12 * cumulative[-1]
    assert is_clear.mean() > 0.95
    np.testing.assert_array_equal(tree.find(shares)[is_clear], expected[is_clear])


@some
@given(size=sizes, seed=seeds)
def test_a_weight_of_0_is_never_found_and_the_ends_are(size: int, seed: int) -> None:
    weights = random_weights(size, seed)
    largest = np.nextafter(1, 0)
    shares = np.concatenate([[0, largest, 5e-324, 0.5], np.linspace(0, largest, 400)])
    found = SumTree(weights).find(shares)
    assert (weights[found] > 0).all()
    assert found[0] == np.flatnonzero(weights)[0]
    # Weights that the total's rounding swallows may be missed at the end.
    assert weights[found[1] + 1 :].sum(dtype=float) < 1e-9 * weights.sum(dtype=float)


@some
@given(size=sizes, seed=seeds, num_updates=st.integers(1, 6))
def test_a_tree_that_was_brought_up_to_date_is_the_one_built_anew(size: int, seed: int, num_updates: int) -> None:
    random, weights = np.random.default_rng(seed), random_weights(size, seed)
    tree = SumTree(weights)
    for _ in range(num_updates):
        ids = np.unique(random.integers(0, size, 20))
        weights[ids] = np.where(random.random(len(ids)) < 0.3, 0, random.exponential(size=len(ids)))
        weights[ids[0]] = 1
        tree.set(ids, weights[ids])
    fresh, shares = SumTree(weights), random.random(500)
    assert tree.total == fresh.total
    np.testing.assert_array_equal(tree.weights, fresh.weights)
    np.testing.assert_array_equal(tree.find(shares), fresh.find(shares))


def test_a_tree_leaves_the_weights_it_was_made_of_alone() -> None:
    weights = np.ones(100, np.float32)
    SumTree(weights).set(np.array([3]), np.array([9], np.float32))
    assert (weights == 1).all()


@some
@given(size=sizes, seed=seeds)
def test_fixed_weights_are_drawn_where_there_is_weight_and_say_their_shares(size: int, seed: int) -> None:
    weights = random_weights(size, seed)
    draws = FixedWeights(weights)
    found = draws.draw(np.random.default_rng(seed), 500)
    assert (weights[found] > 0).all()
    expected = weights / weights.sum(dtype=float)
    np.testing.assert_allclose(draws.probabilities(np.arange(size)), expected, atol=1e-12)
    assert draws.is_uniform == (np.ptp(weights) == 0)


@pytest.mark.parametrize("of", ["fixed", "tree"])
def test_a_million_draws_come_in_proportion_to_the_weights(of: str) -> None:
    weights = np.random.default_rng(1).exponential(size=300).astype(np.float32)
    weights[::7] = 0
    random, fixed, tree = Stream(0, of).at(0), FixedWeights(weights), SumTree(weights)
    drawn = [fixed.draw(random, 2000) if of == "fixed" else tree.find(random.random(2000)) for _ in range(500)]
    counts = np.bincount(np.concatenate(drawn), minlength=len(weights))
    is_drawn = weights > 0
    assert counts[~is_drawn].sum() == 0
    expected = weights[is_drawn] / weights.sum(dtype=float) * 10**6
    assert stats.chisquare(counts[is_drawn], expected * 10**6 / expected.sum()).pvalue > 1e-4


def power(losses: np.ndarray) -> np.ndarray:
    return losses ** np.float32(0.6)


def test_a_million_draws_by_priority_come_as_its_definition_says() -> None:
    windows = table([30, 12, 18])
    scores = Scores(windows, smoothing=0.0)
    seen = np.flatnonzero(np.arange(len(windows)) % 3)
    scores.update(0, seen, np.random.default_rng(0).exponential(size=len(seen)).astype(np.float32))
    share = len(seen) / len(windows)
    expected = np.full(len(windows), 1 / len(windows))
    weight = scores.loss[seen].astype(float) ** 0.6
    expected[seen] = share * weight / weight.sum()
    priorities = Priorities(power)
    np.testing.assert_allclose(priorities.probabilities(scores, np.arange(len(windows))), expected, rtol=1e-5)
    drawn = [priorities.draw(Stream(0, "p").at(i), 2000, scores) for i in range(500)]
    counts = np.bincount(np.concatenate(drawn), minlength=len(windows))
    assert stats.chisquare(counts, expected * 10**6).pvalue > 1e-4


def test_priorities_that_followed_the_scores_are_those_of_a_loaded_table_bit_for_bit() -> None:
    windows, random = table([500] * 20), np.random.default_rng(0)
    scores, followed, ids = Scores(windows, smoothing=0.5), Priorities(power), np.arange(10_000)
    for step in range(30):
        losses = random.exponential(size=256) * 10.0 ** random.integers(-5, 5, 256)
        scores.update(step, random.integers(0, len(windows), 256), losses.astype(np.float32))
        if step % 4 == 1:  # more than one update may come between two draws
            continue
        loaded = Scores(windows, smoothing=0.5)
        loaded.load(scores.state())
        fresh = Priorities(power)
        np.testing.assert_array_equal(followed.probabilities(scores, ids), fresh.probabilities(loaded, ids))
        drawn, expected = (p.draw(Stream(step, "p").at(0), 256, s) for p, s in ((followed, scores), (fresh, loaded)))
        np.testing.assert_array_equal(drawn, expected)


def test_priorities_are_asked_about_one_table_and_then_another() -> None:
    windows, ids = table([50]), np.arange(50)
    tables = [Scores(windows, smoothing=0.5) for _ in range(2)]
    for seed, scores in enumerate(tables):
        scores.update(0, ids, np.random.default_rng(seed).exponential(size=50).astype(np.float32))
    used = Priorities(power)
    for scores in (*tables, *tables):
        np.testing.assert_array_equal(used.probabilities(scores, ids), Priorities(power).probabilities(scores, ids))
