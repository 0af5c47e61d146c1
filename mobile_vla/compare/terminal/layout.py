"""Choose the widest of several layouts of a table that fits the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mobile_vla.compare.data.comparison import Comparison

MAX_TALL_ROWS = 12
"""With more treatments than this, each takes only one line, so that the table fits on a screen."""


def is_dense(comparison: Comparison) -> bool:
    """Return whether the comparison has so many rows that each may take only one line."""
    return len(comparison.rows) > MAX_TALL_ROWS


def new_table(headers: Iterable[str], *, num_left: int, padding: int) -> Table:
    """Return an empty table: the first ``num_left`` columns are text and may wrap, the others are unbroken numbers."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, padding, 0, 0), pad_edge=False, show_edge=False)
    for index, header in enumerate(headers):
        if index < num_left:
            table.add_column(Text(header), overflow="fold")
        else:
            table.add_column(Text(header), justify="right", no_wrap=True)
    return table


def roomiest(tables: Iterable[Table], console: Console) -> Table:
    """Return the first of ``tables`` that fits the console, else the last one, in which only names are wrapped."""
    tables = list(tables)
    # rich never measures a table as wider than the given width, so the measurement needs an unlimited width.
    unlimited = console.options.update(width=10_000)
    fitting = (table for table in tables if console.measure(table, options=unlimited).maximum <= console.width)
    return next(fitting, tables[-1])
