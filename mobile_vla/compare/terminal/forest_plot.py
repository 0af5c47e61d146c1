"""Draw the paired differences of the primary metric and their intervals in the terminal, one line per treatment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mobile_vla.compare.data.comparison import Comparison
from mobile_vla.compare.statistics.estimates import PairedDifference
from mobile_vla.metric_text import with_unit
from mobile_vla.metrics import is_better
from mobile_vla.text import Format, interval_text

MAX_LABEL = 26
MAX_PLOT = 60
MIN_PLOT = 20
"""Widths in terminal columns."""

MAX_REACH = 6
"""Intervals are cut at this multiple of the median distance from 0, so that one diverged run does not squeeze the plot.
"""

LEGEND = "● sure ○ not  ├─┤ 95 % over seeds  ░ over val episodes  ═ over both  ◂▸ goes on"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A horizontal axis from ``low`` to ``high``, which includes 0, on ``width`` terminal columns."""

    low: float
    high: float
    width: int

    @classmethod
    def of(cls, differences: Sequence[PairedDifference], *, width: int) -> Axis:
        """Return an axis that fits the intervals, except for those that are much longer than most."""
        ends = [one.interval or one.episode_interval or (one.mean or 0.0, one.mean or 0.0) for one in differences]
        limit = MAX_REACH * median(max(-low, high, 0.0) for low, high in ends) or 1.0
        low = max(min(0.0, min(low for low, _ in ends)), -limit)
        high = min(max(0.0, max(high for _, high in ends)), limit)
        return cls(low=low, high=high if high > low else low + 1.0, width=width)

    def column(self, value: float) -> int:
        """Return the column of ``value``; -1 if it is left of the axis and ``width`` if it is right of it."""
        if value < self.low:
            return -1
        if value > self.high:
            return self.width
        return round((value - self.low) / (self.high - self.low) * (self.width - 1))


def print_forest(comparison: Comparison, console: Console) -> None:
    """Print the plot: best treatment first, then the differences to controls; nothing if there are no pairs."""
    primary = comparison.primary
    held_against = {row.label: row.metrics[primary].difference for row in comparison.rows}
    controls = [pair for pair in comparison.controls if pair.control != comparison.baseline]
    held_against |= {f"{pair.label} − {pair.control}": pair.difference for pair in controls}
    pairs = [(name, one) for name, one in held_against.items() if one is not None and one.mean is not None]
    if not pairs:
        return
    differences = [difference for _, difference in pairs]
    label_width = min(MAX_LABEL, max(len(name) for name, _ in pairs))
    numbers = comparison.format(primary).differences
    intervals = [_interval(difference, numbers) for difference in differences]
    room = console.width - label_width - max(map(len, intervals)) - 4
    axis = Axis.of(differences, width=max(MIN_PLOT, min(MAX_PLOT, room)))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(overflow="fold", max_width=label_width)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    for (name, difference), interval in zip(pairs, intervals, strict=True):
        table.add_row(Text(name), line(primary, difference, axis), Text(interval))
    table.add_row("", _scale(axis, numbers), "")
    decided_by = with_unit(comparison.primary_title, comparison.unit(primary))
    better = "right" if is_better(primary, 1.0) else "left"
    title = f"Difference to {comparison.baseline} in {decided_by}, paired by seed: {better} is better"
    console.print(Text(title, style="bold"))
    console.print(table)
    console.print(Text(LEGEND, style="dim"))
    if controls:
        console.print(Text("a − b: to its control b instead", style="dim"))
    console.print()


def line(metric: str, difference: PairedDifference, axis: Axis) -> Text:
    """Return the drawing of one difference: first the intervals over val episodes and seeds, then 0, then the mean.

    Later marks overwrite earlier ones, so the mean is always visible.
    """
    cells = [" "] * axis.width
    zero, centre = axis.column(0.0), difference.mean or 0.0
    if difference.episode_interval is not None:
        _fill(cells, difference.episode_interval, axis, "░")
    cells[zero] = "│"
    if difference.interval is not None:
        _fill(cells, difference.interval, axis, "─")
        cells[zero] = "│" if cells[zero] == "│" else "┼"
        for end, mark in zip(difference.interval, "├┤", strict=True):
            _put(cells, axis.column(end), mark)
    _put(cells, axis.column(centre), "●" if difference.is_sure else "○")
    style = ("green" if is_better(metric, centre) else "red") if difference.is_sure else ""
    return Text("".join(cells), style=style)


def _fill(cells: list[str], interval: tuple[float, float], axis: Axis, mark: str) -> None:
    low, high = map(axis.column, interval)
    for column in range(max(low, 0), min(high, axis.width - 1) + 1):
        cells[column] = "═" if cells[column] == "░" else mark


def _put(cells: list[str], column: int, mark: str) -> None:
    """Write ``mark`` into its column, or an arrow at the edge if the column is outside the axis."""
    if 0 <= column < len(cells):
        cells[column] = mark
    else:
        cells[0 if column < 0 else -1] = "◂" if column < 0 else "▸"


def _scale(axis: Axis, numbers: Format) -> Text:
    left, right = numbers.text(axis.low, sign="+"), numbers.text(axis.high, sign="+")
    zero = axis.column(0.0)
    cells = list(left + " " * (axis.width - len(left) - len(right)) + right)
    if len(left) < zero < axis.width - len(right) - 1:
        cells[zero] = "0"
    return Text("".join(cells), style="dim")


def _interval(difference: PairedDifference, numbers: Format) -> str:
    if difference.interval is None:
        return numbers.text(difference.mean, sign="+")
    return interval_text(difference.interval, numbers)
