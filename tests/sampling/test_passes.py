"""Check the orders that passes are made of: each holds everything once, all are equally likely, none like another."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tables import law
from tiny_runs import slow_but

from mobile_vla.sampling.parts.passes import Permutation, ShuffledPasses, round_keys, take_from_each
from mobile_vla.streams import Stream

lengths = st.integers(1, 300) | st.integers(1, 20_000)
seeds = st.integers(0, 2**32)


@settings(max_examples=60)
@given(length=lengths, seed=seeds)
def test_an_order_holds_everything_once_and_its_inverse_says_where(length: int, seed: int) -> None:
    order, places = Permutation.of(length, Stream(seed, "order").at(0)), np.arange(length)
    found = order(places)
    np.testing.assert_array_equal(np.sort(found), places)
    np.testing.assert_array_equal(order.places_of(found), places)
    np.testing.assert_array_equal(order(order.places_of(places)), places)


@pytest.mark.parametrize("length", range(1, 301))
def test_no_length_is_too_small(length: int) -> None:
    order = Permutation.of(length, Stream(0, "order").at(0))
    assert sorted(order(np.arange(length)).tolist()) == list(range(length))


@pytest.mark.parametrize("length", [10**7, 2**31 + 11, 2**40 - 1])
def test_a_table_of_any_size_has_orders(length: int) -> None:
    order = Permutation.of(length, Stream(0, "order").at(0))
    places = np.concatenate([np.arange(1000), length - 1 - np.arange(1000)])
    found = order(places)
    assert ((found >= 0) & (found < length)).all()
    assert len(np.unique(found)) == len(places)
    np.testing.assert_array_equal(order.places_of(found), places)


@pytest.mark.parametrize("length", slow_but(range(1, 7), range(1, 6)))
def test_every_order_of_few_is_equally_likely(length: int) -> None:
    num_orders = 120 * factorial(length)
    keys = np.stack([round_keys(Stream(0, "orders").at(i)) for i in range(num_orders)], axis=1)
    many = Permutation(np.array(length), np.repeat(keys, length, axis=1))
    found = many(np.tile(np.arange(length), num_orders)).reshape(num_orders, length)
    names = found @ length ** np.arange(length)
    counts = [
        int((names == np.array(order) @ length ** np.arange(length)).sum()) for order in permutations(range(length))
    ]
    assert sum(counts) == num_orders
    if length > 1:
        assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("length", slow_but([9, 25, 36], [9, 25]))
def test_half_of_the_orders_are_odd(length: int) -> None:
    num_orders, places = 1000, np.arange(length)
    orders = [Permutation.of(length, Stream(seed, "order").at(0))(places) for seed in range(num_orders)]
    is_odd = [np.linalg.det(np.eye(length)[order]) < 0 for order in orders]
    assert abs(np.sum(is_odd) - num_orders / 2) < 4.5 * np.sqrt(num_orders) / 2


@pytest.mark.parametrize("length", [10, 61, 64])
def test_where_a_window_stands_says_nothing_of_the_next_pass_nor_of_its_neighbour(length: int) -> None:
    num_passes = 4000
    taken = ShuffledPasses(length, Stream(0, "passes")).take(0, num_passes * length).reshape(num_passes, length)
    for first, second in ((taken[:-1], taken[1:]), (taken[:, :-1], taken[:, 1:])):
        pairs = np.bincount((first * length + second).ravel(), minlength=length**2)
        # Neighbours of one pass are never the same.
        possible = pairs if first.shape[1] == length else pairs[~np.eye(length, dtype=bool).ravel()]
        assert possible.sum() == first.size
        assert stats.chisquare(possible).pvalue > 1e-4
    by_place = np.bincount((np.arange(length) * length + taken).ravel(), minlength=length**2)
    assert stats.chisquare(by_place).pvalue > 1e-4


def test_long_orders_show_no_trend() -> None:
    places = np.arange(100_000)
    for seed in range(5):
        found = Permutation.of(len(places), Stream(seed, "order").at(0))(places)
        # Of an independent pair the standard deviation is 0.0032.
        assert abs(np.corrcoef(places, found)[0, 1]) < 0.015
        assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.015


@law
@given(length=st.integers(1, 30), seed=seeds, first=st.integers(0, 100), count=st.integers(0, 100))
def test_any_part_of_the_passes_is_that_part_of_the_whole(length: int, seed: int, first: int, count: int) -> None:
    stream = Stream(seed, "passes")
    whole = np.concatenate([Permutation.of(length, stream.at(which))(np.arange(length)) for which in range(201)])
    np.testing.assert_array_equal(ShuffledPasses(length, stream).take(first, count), whole[first : first + count])


@law
@given(
    parts=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 40), st.integers(0, 30)), min_size=1, max_size=6),
    seed=seeds,
)
def test_taking_from_many_is_taking_from_each(parts: list[tuple[int, int, int]], seed: int) -> None:
    sequences = [ShuffledPasses(length, Stream(seed, f"queue {i}")) for i, (length, _, _) in enumerate(parts)]
    first, count = (np.array([part[i] for part in parts]) for i in (1, 2))
    alone = [sequence.take(f, c) for sequence, (_, f, c) in zip(sequences, parts, strict=True)]
    np.testing.assert_array_equal(take_from_each(sequences, first, count), np.concatenate(alone))
