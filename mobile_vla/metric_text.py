"""Format metrics: shares in percent and their differences in percentage points, everything else as plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mobile_vla.metrics import entry_of, title_of, unbeaten
from mobile_vla.text import POINTS, Format, NumberFormat, ShareFormat, listed

SPREAD = "train std"
"""The unit of an error of actions that are each divided by their standard deviation in train: 1 is as bad as to predict
the mean.
"""

SCALED_MEANING = "each action is divided by its standard deviation over the train frames"
"""How ``nrmse`` is measured, for a line below a table or beside a figure."""


def with_unit(title: str, unit: str, *, gap: str = " ") -> str:
    """Return ``val/rmse [m/s]``; only the title if ``unit`` is empty."""
    return f"{title}{gap}[{unit}]" if unit else title


def in_points(name: str) -> str:
    """Return the end of a heading over differences in a metric: ``, points`` for a share, else an empty text."""
    return ", points" if is_share(name) else ""


def format_of(name: str, values: Iterable[float | None]) -> Format:
    """Return the number format for ``values`` of a metric; its ``differences`` is the format for their differences."""
    return ShareFormat() if is_share(name) else NumberFormat.of(values)


def is_share(name: str) -> bool:
    """Return whether a metric is shown in percent, and its differences in points."""
    return entry_of(name).unit == "share"


def size(name: str, difference: float, *, reference: float | None = None) -> str:
    """Return ``7.0 points`` for a share, else ``0.012 (4.3 %)``: the percentage is relative to ``reference``.

    The percentage is left out if ``reference`` is None or 0.
    """
    if is_share(name):
        return f"{POINTS.text(difference)} points"
    percent = f" ({100 * difference / abs(reference):.2g} %)" if reference else ""
    return f"{difference:.2g}{percent}"


def no_better_than(known: Mapping[str, Any], *, error: str) -> str:
    """Return a sentence with every reference predictor that the policy does not beat in ``error``; empty without one.

    ``known`` are the values of a summary.
    """
    if known.get(error) is None:
        return ""
    names = unbeaten({"policy": known[error]}, error=error, known=known)
    if not names:
        return ""
    others = listed(f"the {title_of(name)} ({known[name]:.4f})" for name in names)
    see = "sees" if len(names) == 1 else "see"
    return f"In {error} the policy ({known[error]:.4f}) is no better than {others}, which {see} no image."
