"""Divide batches among strata by fixed quotas, in whole windows; remainders carry over to the next batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-9
"""Differences below this count as rounding errors of the shares, not as remainders."""


def tempered_shares(counts: NDArray[np.int64], *, tau: float) -> NDArray[np.float64]:
    """Return shares proportional to counts^(1/tau): tau = 1 keeps the natural shares, a large tau makes them equal."""
    weights = counts.astype(float) ** (1 / tau)
    return weights / weights.sum()


def at_least_one_each(shares: NDArray[np.float64], *, batch_size: int) -> NDArray[np.float64]:
    """Return ``shares`` with those below one window a batch raised to it, and the others reduced in proportion.

    ``batch_size`` must be at least the number of ``shares``. They are positive and sum to 1; so do the results.
    """
    floor = 1 / batch_size
    is_raised = np.zeros(len(shares), bool)
    # Repeated, because reducing the others may take one of them below the floor.
    while True:
        rest = 1 - floor * is_raised.sum()
        result = np.where(is_raised, floor, shares * rest / shares[~is_raised].sum())
        is_low = result < floor - _ROUNDING
        if not is_low.any():
            return result
        is_raised |= is_low


class QuotaSchedule:
    """The number of windows of each stratum in every step, a pure function of the step.

    Each step gives stratum s floor(B q_s) windows. The rest of the batch goes, one window each, to the strata with the
    largest remainders, accumulated over the steps so far. So every batch has B q_s windows of stratum s, rounded down
    or up, and the running total stays near its exact value (the tests check: within two windows).
    """

    def __init__(self, shares: NDArray[np.float64], *, batch_size: int) -> None:
        exact = shares * batch_size
        self._whole = np.floor(exact + _ROUNDING).astype(np.int64)
        self._left = batch_size - int(self._whole.sum())
        remainder = exact - self._whole
        self._open = np.flatnonzero(remainder > _ROUNDING)
        self._remainder = remainder[self._open]
        self._rewind()

    def at(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers of windows drawn before ``step``, and those to draw in it, each [S].

        The remainders are replayed from the step of the last call, or from 0 if that was a later one. In training the
        steps only increase, so this costs one addition a step.
        """
        if step < self._step:
            self._rewind()
        while self._step < step:
            extra, self._owed = self._share_out()
            self._extras[self._open[extra]] += 1
            self._step += 1
        counts = self._whole.copy()
        counts[self._open[self._share_out()[0]]] += 1
        return step * self._whole + self._extras, counts

    def _rewind(self) -> None:
        self._step = 0
        self._owed = np.zeros(len(self._open))
        self._extras = np.zeros(len(self._whole), np.int64)

    def _share_out(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the open strata that get one more window at ``self._step``, and what all of them are owed after it."""
        owed = self._owed + self._remainder
        # Rounded, so that rounding errors do not break ties differently on different machines; the first stratum wins.
        extra = np.argsort(-np.round(owed, 9), kind="stable")[: self._left]
        owed[extra] -= 1
        return extra, owed
