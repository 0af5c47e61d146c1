"""Print the closed-loop results: the treatments' success by suite, and their drives paired with the baseline's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mobile_vla.compare.data.closed_loop import success_key
from mobile_vla.compare.data.comparison import Comparison, Metric, Row
from mobile_vla.compare.terminal.cells import difference_cell, spread_cell
from mobile_vla.compare.terminal.layout import is_dense, new_table, roomiest
from mobile_vla.metrics import best_first
from mobile_vla.text import MISSING, POINTS, ShareFormat, p_value

LAYOUTS = ((" ", 1), (" ", 0), ("\n", 0))
"""From wide to narrow: the text between a mean and its spread, and the padding between columns."""

OTHER_STATES = "other states"

DENSE_LEGEND = "% of drives, then points against the baseline, coloured where the 95 % interval over seeds excludes 0."

LEGEND = (
    "alone: paired drives (same seed, same initial state) that reached the goal with one of the two only. "
    "p: sign-flip test over initial states, for the policies as trained; the interval is over training seeds."
)


def print_closed_loop(comparison: Comparison, console: Console) -> None:
    """Print the suites one below the other, each with the treatments ordered by success; nothing if no run drove."""
    if not comparison.suites:
        return
    console.print(Text(_title(comparison), style="bold"))
    if is_dense(comparison):
        console.print(roomiest((_dense_table(comparison, padding=padding) for padding in (2, 1)), console))
        console.print(Text(DENSE_LEGEND, style="dim"))
    else:
        console.print(roomiest((_table(comparison, gap=gap, padding=padding) for gap, padding in LAYOUTS), console))
        console.print()
        console.print(Text(LEGEND, style="dim"))
    for description in comparison.different_states.values():
        console.print()
        console.print(Text("Success is not compared between runs that met other initial states:", style="yellow"))
        console.print(Text(description))
    console.print()


def _title(comparison: Comparison) -> str:
    numbers = {
        int(number)
        for row in comparison.rows
        for suite in comparison.suites
        for number in _values(row, f"closed_loop/{suite}/episodes")
    }
    count = f", {numbers.pop()} drives a run and suite" if len(numbers) == 1 else ""
    return f"Closed loop: success{count}"


def _values(row: Row, name: str) -> list[float]:
    return list(row.metrics[name].values.values()) if name in row.metrics else []


def _table(comparison: Comparison, *, gap: str, padding: int) -> Table:
    headers = [comparison.compared, "success", "difference to\nbaseline, points, 95 %"]
    table = new_table([*headers, f"{comparison.compared}\nalone", "baseline\nalone", "p"], num_left=1, padding=padding)
    for suite in comparison.suites:
        table.add_row(Text(suite, style="bold italic"))
        for cells in _rows(comparison, suite, gap=gap):
            table.add_row(*cells)
        table.add_section()
    return table


def _dense_table(comparison: Comparison, *, padding: int) -> Table:
    """Return a table with the suites side by side and the treatments in the order of the primary metric."""
    table = new_table([comparison.compared, *comparison.suites], num_left=1, padding=padding)
    for row in comparison.rows:
        cells = [Text(row.label, style="bold" if row.label == comparison.baseline else "")]
        for suite in comparison.suites:
            metric = row.metrics[success_key(suite)]
            points = _points(metric, suite, gap=None)
            cells.append(Text.assemble(POINTS.text(metric.mean), " " if points else "", points))
        table.add_row(*cells)
    return table


def _rows(comparison: Comparison, suite: str, *, gap: str) -> Iterator[list[Text]]:
    name = success_key(suite)
    drove = [row for row in comparison.rows if row.metrics[name].values]
    for row in sorted(drove, key=lambda row: best_first(name, row.metrics[name].mean)):
        metric = row.metrics[name]
        label = Text(row.label, style="bold" if row.label == comparison.baseline else "")
        cells = [label, spread_cell(metric, ShareFormat(), gap=gap)]
        if metric.difference is None:
            yield [*cells, Text(""), Text(""), Text(""), Text("")]
        elif metric.difference.num_pairs == 0 and suite in comparison.different_states:
            yield [*cells, Text(OTHER_STATES, style="yellow"), Text(MISSING), Text(MISSING), Text(MISSING)]
        else:
            yield [*cells, _points(metric, suite, gap=gap), *_drives(row, suite)]


def _points(metric: Metric, suite: str, *, gap: str | None) -> Text:
    """Return the difference in success without an adjusted p value.

    If a success rate is the primary metric, its adjusted p is in the main table; here all suites look the same.
    """
    difference = metric.difference and replace(metric.difference, adjusted_p_value=None)
    return difference_cell(success_key(suite), difference, POINTS, gap=gap)


def _drives(row: Row, suite: str) -> list[Text]:
    drives = row.drives[suite]
    if not drives.num_pairs:
        return [Text(MISSING)] * 3
    return [Text(str(drives.only_treatment)), Text(str(drives.only_baseline)), Text(p_value(drives.p_value))]
