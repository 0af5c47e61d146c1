"""Write a metric in its own terms: success in percent and its differences in points, everything else as it is."""

from __future__ import annotations

from collections.abc import Iterable

from mobile_vla.metrics import entry_of
from mobile_vla.number_format import POINTS, Format, NumberFormat, ShareFormat


def with_unit(title: str, unit: str, *, gap: str = " ") -> str:
    """Return ``val/rmse [m/s]``; the title alone where ``unit`` is empty."""
    return f"{title}{gap}[{unit}]" if unit else title


def in_points(name: str) -> str:
    """Return what the heading of differences in a metric ends with: ``, points`` for a share, else nothing."""
    return ", points" if is_share(name) else ""


def format_of(name: str, values: Iterable[float | None]) -> Format:
    """Return how to write ``values`` of a metric; its ``differences`` writes what lies between them."""
    return ShareFormat() if is_share(name) else NumberFormat.of(values)


def is_share(name: str) -> bool:
    """Return whether a metric is shown in percent, and its differences in points."""
    return entry_of(name).unit == "share"


def size(name: str, difference: float, *, reference: float | None = None) -> str:
    """Return ``7.0 points`` of a share, else ``0.012 (4.3 %)``, the percentage of ``reference`` unless None or 0."""
    if is_share(name):
        return f"{POINTS.text(difference)} points"
    percent = f" ({100 * difference / abs(reference):.2g} %)" if reference else ""
    return f"{difference:.2g}{percent}"
