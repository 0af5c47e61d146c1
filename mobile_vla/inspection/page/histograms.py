"""Histograms of all signals, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.contract import Recording
from mobile_vla.inspection.contents import SignalRange

_NUM_BINS = 40
_MAX_SINGLE = 12
"""Most values that are counted one by one, such as those of keys."""

_FAR = 3.0
"""A range that is this many times that of all but a hundredth of the values at each end is cut: bins show the rest."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of the values of one signal between ``low`` and ``high``, in bins of equal width.

    ``num_below`` and ``num_above`` values are outside.
    """

    counts: Sequence[int]
    low: float
    high: float
    num_below: int
    num_above: int


def histogram_of(values: NDArray[np.float32], entry: SignalRange) -> Histogram:
    """Return the histogram of ``values`` [F], the values of ``entry``."""
    low, high = entry.smallest, entry.largest
    usual = entry.high - entry.low
    if usual > 0 and high - low > _FAR * usual:
        low, high = max(low, entry.low - usual / 2), min(high, entry.high + usual / 2)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    values_F = values.astype(np.float64)  # float32 edges of a narrow range far from 0 coincide
    num_bins = _NUM_BINS if entry.num_values > _MAX_SINGLE else 2 * _MAX_SINGLE + 1
    counts, _ = np.histogram(values_F, bins=num_bins, range=(low, high))
    return Histogram(
        counts=counts.tolist(),
        low=low,
        high=high,
        num_below=int((values_F < low).sum()),
        num_above=int((values_F > high).sum()),
    )


def values_of(recordings: Sequence[Recording], name: str, *, of_state: bool) -> NDArray[np.float32]:
    """Return all values of the signal ``name``, of the recordings that have it."""
    columns = []
    for recording in recordings:
        names = recording.spec.state_names if of_state else recording.spec.action_names
        values_FS = recording.state if of_state else recording.actions
        if name in names:
            columns.append(values_FS[:, names.index(name)])
    return np.concatenate(columns)


def histogram_svg(histogram: Histogram, label: str) -> str:
    """Return the bars; ``label``, escaped, describes them to who cannot see them. Heights are linear in the counts."""
    top = max(max(histogram.counts), 1)
    width = 100 / len(histogram.counts)
    # A bar of a few among thousands would not be seen, but that there are some matters.
    bars = "".join(
        f"M{index * width:.2f} 40v-{max(38 * count / top, 1):.1f}h{0.86 * width:.2f}V40z"
        for index, count in enumerate(histogram.counts)
        if count
    )
    return (
        f'<svg viewBox="0 0 100 41" preserveAspectRatio="none" role="img" aria-label="{label}"><path d="{bars}"/></svg>'
    )
