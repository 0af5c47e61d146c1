"""Share a batch out over strata: fixed quotas, whole windows, the remainder carried over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-9
"""Differences below this are rounding errors of the shares, not remainders."""


def tempered_shares(counts: NDArray[np.int64], *, tau: float) -> NDArray[np.float64]:
    """Return shares proportional to counts^(1/tau): tau 1 keeps the natural ones, a large tau makes them equal."""
    weights = counts.astype(float) ** (1 / tau)
    return weights / weights.sum()


def at_least_one_each(shares: NDArray[np.float64], *, batch_size: int) -> NDArray[np.float64]:
    """Raise the shares below one window a batch to exactly that and take it from the others in proportion.

    ``batch_size`` is at least the number of ``shares``, which are positive and sum to 1; so does the result.
    """
    floor = 1 / batch_size
    is_raised = np.zeros(len(shares), bool)
    while True:
        rest = 1 - floor * is_raised.sum()
        result = np.where(is_raised, floor, shares * rest / shares[~is_raised].sum())
        is_low = result < floor - _ROUNDING
        if not is_low.any():
            return result
        is_raised |= is_low


class QuotaSchedule:
    """How many windows of each stratum every step draws, a pure function of the step.

    Each step gives stratum s floor(B q_s) windows; what is left of the batch goes, one each, to the strata with a
    remainder that are owed most so far (largest remainder, the remainder carried over). So every batch holds B q_s
    rounded down or up, and the running total stays near its exact value (the tests hold it within two windows).
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
        """Return (drawn before this step, to draw in it), each [S].

        The remainders are replayed from the step asked for last, or from 0 when that lies ahead: walking forward costs
        one addition a step.
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
        """Return which open strata get one window more at the cursor's step, and what all are owed after it."""
        owed = self._owed + self._remainder
        # Rounded, so that ties are ties on every machine; they go to the earlier stratum.
        extra = np.argsort(-np.round(owed, 9), kind="stable")[: self._left]
        owed[extra] -= 1
        return extra, owed
