"""Choose the roomiest of several drawings of one table that the terminal is wide enough for."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mobile_vla.compare.comparison import Comparison

MAX_TALL_ROWS = 12
"""More samplers than this get one line each, so that their table fits a screen."""


def is_dense(comparison: Comparison) -> bool:
    """Whether the comparison has so many rows that each may take one line only."""
    return len(comparison.rows) > MAX_TALL_ROWS


def new_table(headers: Iterable[str], *, num_left: int, padding: int) -> Table:
    """Return an empty table; its first ``num_left`` columns hold words and may fold, the others whole numbers."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, padding, 0, 0), pad_edge=False, show_edge=False)
    for index, header in enumerate(headers):
        if index < num_left:
            table.add_column(Text(header), overflow="fold")
        else:
            table.add_column(Text(header), justify="right", no_wrap=True)
    return table


def roomiest(tables: Iterable[Table], console: Console) -> Table:
    """Return the first of ``tables`` that fits, else the last: there a long name is folded, never a number."""
    tables = list(tables)
    # A table is measured within the width it is given, so one that does not fit shows only where there is no limit.
    unlimited = console.options.update(width=10_000)
    fitting = (table for table in tables if console.measure(table, options=unlimited).maximum <= console.width)
    return next(fitting, tables[-1])
