"""Format the cells of a comparison's terminal tables: means with spread, differences with intervals, and costs."""

from __future__ import annotations

from rich.text import Text

from mobile_vla.compare.data.comparison import Metric, Row
from mobile_vla.compare.statistics.estimates import PairedDifference
from mobile_vla.metrics import COSTS, is_better
from mobile_vla.text import MISSING, Format, count, duration, interval_text, p_value


def spread_cell(metric: Metric, numbers: Format, *, gap: str | None) -> Text:
    """Return the mean and, after ``gap``, the standard deviation over seeds; without it if ``gap`` is None."""
    text = Text(numbers.text(metric.mean))
    if gap is not None and metric.std is not None:
        text.append(f"{gap}±{numbers.text(metric.std)}", style="dim")
    return text


def difference_cell(name: str, difference: PairedDifference | None, numbers: Format, *, gap: str | None) -> Text:
    """Return a difference in metric ``name``, with its adjusted p if it has one, and its interval if ``gap`` is given.

    Green means better and red means worse. The primary metric has a colour only if the difference is sure, other
    metrics if the interval excludes 0.
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
    """Return the mean cost of a run of ``row``: time, windows trained on and, after a plus sign, windows scored."""
    spent = {name: row.metrics[name].mean if name in row.metrics else None for name in COSTS}
    text = Text(duration(spent["wall_s"]))
    if spent["samples_seen"] is not None:
        text.append(f"{gap}{count(spent['samples_seen'])}", style="dim")
    if spent["windows_scored"]:
        text.append(f"+{count(spent['windows_scored'])}", style="dim")
    return text
