"""Walk through a table pass by pass: the arithmetic that orders share."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mobile_vla.streams import Stream

PassOrder = Callable[[int], NDArray[np.int64]]
"""Maps a pass (0, 1, ...) to an order of all ids of a table."""


def shuffled_passes(ids: NDArray[np.int64], stream: Stream) -> PassOrder:
    """Return the order that shuffles ``ids`` anew each pass, by ``stream``.

    The two latest passes are kept (a batch may span two), so that a draw costs a slice and not a permutation.
    """
    return lru_cache(maxsize=2)(lambda which: stream.at(which).permutation(ids))


def draw_from_passes(order: PassOrder, *, length: int, first: int, count: int) -> NDArray[np.int64]:
    """Return places ``first`` .. ``first + count - 1`` (1 or more) of the endless sequence order(0), order(1), ...

    ``length`` (1 or more) is that of every pass.
    """
    parts = []
    while count:
        which, place = divmod(first, length)
        parts.append(order(which)[place : place + count])
        first += len(parts[-1])
        count -= len(parts[-1])
    return np.concatenate(parts)
