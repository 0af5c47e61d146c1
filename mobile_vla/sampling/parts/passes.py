"""Compute shuffled passes over a table place by place, without storing a permutation."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mobile_vla.streams import Stream

_NUM_ROUNDS = 20
"""Rounds of the Feistel network: enough to make all orders equally frequent on the smallest tables (tests check it)."""

_U64 = np.uint64


class Permutation(NamedTuple):
    """One or several random permutations of 0 .. length-1, computed only at the places that are requested.

    So they need no memory for a permutation and no time for a shuffle. There is one permutation, or a separate one for
    each requested place: then ``lengths`` and each row of ``keys`` have the shape of the places.

    A permutation is a Feistel network over Z_a x Z_b with a*b at least the length. A result outside 0 .. length-1 is
    put through the network again until it is inside, "cycle walking" (Black and Rogaway, CT-RSA 2002, methods 2 and 3).
    The rounds use the mixing function of splitmix64.
    """

    lengths: NDArray[np.int64]
    keys: NDArray[np.uint64]

    @classmethod
    def of(cls, length: int, random: np.random.Generator) -> Permutation:
        """Return one permutation of 0 .. length-1 with keys drawn from ``random``."""
        return cls(np.array(length), round_keys(random))

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the values at ``places`` (0 .. length-1)."""
        return self._walk(places, is_inverse=False)

    def places_of(self, found: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of the values ``found``: the inverse permutation."""
        return self._walk(found, is_inverse=True)

    def _walk(self, values: NDArray[np.int64], *, is_inverse: bool) -> NDArray[np.int64]:
        lengths = np.broadcast_to(self.lengths, values.shape)
        keys = np.broadcast_to(self.keys if self.keys.ndim > 1 else self.keys[:, None], (_NUM_ROUNDS, *values.shape))
        result = _network(values, lengths, keys, is_inverse=is_inverse)
        # This ends: the network is a bijection, so repeated application to a value of the range leads back into it.
        while (outside := np.flatnonzero(result >= lengths)).size:
            result[outside] = _network(result[outside], lengths[outside], keys[:, outside], is_inverse=is_inverse)
        return result


class ShuffledPasses:
    """An endless sequence with random access: 0 .. length-1 in a new random order in every pass."""

    def __init__(self, length: int, stream: Stream) -> None:
        self.length = length
        # Two entries, because a batch may span two passes.
        self.keys = lru_cache(maxsize=2)(lambda which: round_keys(stream.at(which)))

    def take(self, first: int, count: int) -> NDArray[np.int64]:
        """Return places ``first`` .. ``first + count - 1`` of the sequence [count]."""
        return take_from_each([self], np.array([first]), np.array([count]))


def take_from_each(
    sequences: list[ShuffledPasses], first: NDArray[np.int64], count: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the places ``first[s]`` .. ``first[s] + count[s] - 1`` of every sequence s, concatenated.

    All sequences are computed in one vectorised call, because a call for each of many small strata would be slow.
    """
    number = np.repeat(np.arange(len(sequences)), count)
    within = np.arange(len(number)) - np.repeat(np.cumsum(count) - count, count)
    lengths = np.array([sequence.length for sequence in sequences])[number]
    which, places = np.divmod(first[number] + within, lengths)
    passes, place_in_passes = np.unique(np.stack([number, which]), axis=1, return_inverse=True)
    keys = [sequences[s].keys(w) for s, w in passes.T.tolist()]
    return Permutation(lengths, np.array(keys, _U64).reshape(-1, _NUM_ROUNDS)[place_in_passes.ravel()].T)(places)


def steps_of(passes: float, length: int, *, batch_size: int) -> int:
    """Return the number of steps that draw ``passes`` passes over ``length`` places, rounded up."""
    return int(np.ceil(passes * length / batch_size))


def round_keys(random: np.random.Generator) -> NDArray[np.uint64]:
    """Return the keys of one permutation, one for each round."""
    return random.integers(0, 2**64, _NUM_ROUNDS, _U64)


def _network(
    values: NDArray[np.int64], lengths: NDArray[np.int64], keys: NDArray[np.uint64], *, is_inverse: bool
) -> NDArray[np.int64]:
    """Return the image of ``values`` under a permutation of 0 .. a*b-1, where a*b is at least the value's length."""
    # a is even: with odd a and b, the rounds could produce only even permutations, which are half of all orders.
    rows = (2 * np.ceil(np.sqrt(lengths) / 2)).astype(_U64)
    columns = -(-lengths // rows.astype(np.int64)).astype(_U64)
    left, right = np.divmod(values.astype(_U64), columns)
    rounds = range(0, _NUM_ROUNDS, 2)
    if is_inverse:
        for i in reversed(rounds):
            right = (right + columns - _mixed(left, keys[i + 1]) % columns) % columns
            left = (left + rows - _mixed(right, keys[i]) % rows) % rows
    else:
        for i in rounds:
            left = (left + _mixed(right, keys[i]) % rows) % rows
            right = (right + _mixed(left, keys[i + 1]) % columns) % columns
    return (left * columns + right).astype(np.int64)


def _mixed(value: NDArray[np.uint64], key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 64 random-looking bits of each ``value`` under ``key``: splitmix64's finaliser (Steele et al. 2014)."""
    mixed = value * _U64(0x9E3779B97F4A7C15) + key
    mixed = (mixed ^ (mixed >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> _U64(27))) * _U64(0x94D049BB133111EB)
    return mixed ^ (mixed >> _U64(31))
