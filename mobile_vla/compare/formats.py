"""Write a metric in its own terms: success in percent and its differences in points, everything else as it is."""

from __future__ import annotations

from collections.abc import Iterable

from mobile_vla.compare.closed_loop import is_success, suite_of_success
from mobile_vla.number_format import POINTS, Format, NumberFormat, ShareFormat


def metric_title(metric: str) -> str:
    """Return ``success in looks`` for the success rate of a whole suite, and any other metric's name."""
    suite = suite_of_success(metric)
    return metric if suite is None else f"success in {suite}"


def with_unit(title: str, unit: str, *, gap: str = " ") -> str:
    """Return ``val/rmse [m/s]``; the title alone where ``unit`` is empty."""
    return f"{title}{gap}[{unit}]" if unit else title


def in_points(metric: str) -> str:
    """Return what the heading of differences in ``metric`` ends with: ``, points`` for success, else nothing."""
    return ", points" if is_success(metric) else ""


def format_of(metric: str, values: Iterable[float | None]) -> Format:
    """Return how to write ``values`` of ``metric``; its ``differences`` writes what lies between them."""
    return ShareFormat() if is_success(metric) else NumberFormat.of(values)


def size(metric: str, difference: float, *, reference: float | None = None) -> str:
    """Return ``7.0 points`` for success, else ``0.012 (4.3 %)``, the percentage of ``reference`` unless None or 0."""
    if is_success(metric):
        return f"{POINTS.text(difference)} points"
    percent = f" ({100 * difference / abs(reference):.2g} %)" if reference else ""
    return f"{difference:.2g}{percent}"
