"""Walk through a table pass by pass: the arithmetic that orders share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

PassOrder = Callable[[int], NDArray[np.int64]]
"""Maps a pass (0, 1, ...) to an order of all windows, [N]."""


def draw_from_passes(order: PassOrder, *, num_windows: int, first: int, count: int) -> NDArray[np.int64]:
    """Return places ``first`` .. ``first + count - 1`` of the endless sequence order(0), order(1), ..."""
    places = np.arange(first, first + count)
    passes = places // num_windows
    ids = np.empty(count, np.int64)
    for which in np.unique(passes):
        here = passes == which
        ids[here] = order(int(which))[places[here] % num_windows]
    return ids


def remember_last(order: PassOrder, *, keep: int = 2) -> PassOrder:
    """Return ``order`` that keeps its latest ``keep`` answers: a draw then costs a slice, not a permutation of the table."""
    known: dict[int, NDArray[np.int64]] = {}

    def remembered(which: int) -> NDArray[np.int64]:
        if which not in known:
            while len(known) >= keep:
                known.pop(next(iter(known)))
            known[which] = order(which)
        return known[which]

    return remembered
