"""Write one cell of a comparison's tables: a mean with its spread, a difference with its interval."""

from __future__ import annotations

from rich.text import Text

from mobile_vla.compare.comparison import Metric, Row
from mobile_vla.compare.statistics import PairedDifference
from mobile_vla.metrics import COSTS, is_better
from mobile_vla.number_format import MISSING, Format, count, duration, interval_text, p_value


def spread_cell(metric: Metric, numbers: Format, *, gap: str | None) -> Text:
    """Write the mean and, after ``gap``, the standard deviation over seeds; None leaves it out."""
    text = Text(numbers.text(metric.mean))
    if gap is not None and metric.std is not None:
        text.append(f"{gap}±{numbers.text(metric.std)}", style="dim")
    return text


def difference_cell(name: str, difference: PairedDifference | None, numbers: Format, *, gap: str | None) -> Text:
    """Write a difference in metric ``name``, its adjusted p, where it has one, and its interval unless ``gap`` is None.

    Green is better and red is worse: for the primary metric where that is sure, else where the interval excludes 0.
    """
    if difference is None or difference.mean is None:
        return Text("" if difference is None else MISSING)
    style = ("green" if is_better(name, difference.mean) else "red") if difference.is_coloured else ""
    text = Text(numbers.text(difference.mean, sign="+"), style=style)
    if difference.adjusted_p_value is not None:
        text.append(f" p {p_value(difference.adjusted_p_value)}")
    if gap is not None and difference.interval is not None:
        text.append(f"{gap}{interval_text(difference.interval, numbers)}")
    return text


def cost_cell(row: Row, *, gap: str) -> Text:
    """Write what a run of ``row`` spent on average: time, and windows, those scored beside those trained on."""
    spent = {name: row.metrics[name].mean if name in row.metrics else None for name in COSTS}
    text = Text(duration(spent["wall_s"]))
    if spent["samples_seen"] is not None:
        text.append(f"{gap}{count(spent['samples_seen'])}", style="dim")
    if spent["windows_scored"]:
        text.append(f"+{count(spent['windows_scored'])}", style="dim")
    return text
