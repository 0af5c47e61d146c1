"""Write one cell of a comparison's tables: a mean with its spread, a difference with its interval."""

from __future__ import annotations

from rich.text import Text

from mobile_vla.compare.comparison import Metric
from mobile_vla.compare.direction import is_better
from mobile_vla.compare.number_format import MISSING, NumberFormat, ShareFormat
from mobile_vla.compare.statistics import PairedDifference


def spread_cell(metric: Metric, numbers: NumberFormat | ShareFormat, *, gap: str | None) -> Text:
    """Write the mean and, after ``gap``, the standard deviation over seeds; None leaves it out."""
    text = Text(numbers.text(metric.mean))
    if gap is not None and metric.std is not None:
        text.append(f"{gap}±{numbers.text(metric.std)}", style="dim")
    return text


def difference_cell(
    name: str, difference: PairedDifference | None, numbers: NumberFormat | ShareFormat, *, gap: str
) -> Text:
    """Write a difference in metric ``name`` and its interval: green if surely better, red if surely worse."""
    if difference is None or difference.mean is None:
        return Text("" if difference is None else MISSING)
    style = ("green" if is_better(name, difference.mean) else "red") if difference.excludes_zero else ""
    text = Text(numbers.text(difference.mean, sign="+"), style=style)
    if difference.interval is not None:
        low, high = (numbers.text(end, sign="+") for end in difference.interval)
        text.append(f"{gap}[{low}, {high}]")
    return text
