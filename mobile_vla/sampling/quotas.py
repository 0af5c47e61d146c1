"""Share a batch out over strata: fixed quotas, whole windows, the remainder carried over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def tempered_shares(counts: NDArray[np.int64], *, tau: float) -> NDArray[np.float64]:
    """Return shares proportional to counts^(1/tau): tau 1 keeps the natural ones, a large tau makes them equal."""
    weights = counts.astype(float) ** (1 / tau)
    return weights / weights.sum()


def at_least_one_each(shares: NDArray[np.float64], *, batch_size: int) -> NDArray[np.float64]:
    """Raise the shares below one window a batch to exactly that and take it from the others in proportion."""
    floor = 1 / batch_size
    raised = np.zeros(len(shares), bool)
    result = shares.copy()
    while (result < floor - 1e-12).any():
        raised |= result < floor - 1e-12
        rest = 1 - floor * raised.sum()
        result = np.where(raised, floor, shares * rest / max(shares[~raised].sum(), 1e-300))
    return result


class QuotaSchedule:
    """How many windows of each stratum every step draws, a pure function of the step.

    Each step gives stratum s floor(B q_s) windows; what is left of the batch goes to the strata that are owed most so
    far (largest remainder, the remainder carried over). So every batch differs from B q_s by less than one window, and
    so does the running total from its exact value, up to the number of strata.
    """

    def __init__(self, shares: NDArray[np.float64], *, batch_size: int) -> None:
        exact = shares * batch_size
        self._whole = np.floor(exact + 1e-9).astype(np.int64)
        self._fraction = np.maximum(exact - self._whole, 0.0)
        self._left = batch_size - int(self._whole.sum())
        self._cursor = (0, np.zeros(len(shares)), np.zeros(len(shares), np.int64))

    def at(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (drawn before this step, to draw in it), each [S].

        The carried remainder is replayed from the last step asked for, so walking forward costs one addition a step.
        """
        if step < self._cursor[0]:
            self._cursor = (0, np.zeros_like(self._fraction), np.zeros_like(self._whole))
        at, owed, drawn = self._cursor
        while at < step:
            counts, owed = self._share_out(owed)
            drawn = drawn + counts
            at += 1
        self._cursor = (at, owed, drawn)
        return drawn, self._share_out(owed)[0]

    def _share_out(self, owed: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        owed = owed + self._fraction
        # Rounded, so that ties are ties on every machine; they go to the earlier stratum.
        extra = np.argsort(-np.round(owed, 9), kind="stable")[: self._left]
        counts = self._whole.copy()
        counts[extra] += 1
        owed = owed.copy()
        owed[extra] -= 1
        return counts, owed
