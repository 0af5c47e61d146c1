"""Data classes for the contents of the page: plots, tables and their texts, before they are rendered as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Value = str | float | int | None

Columns = Mapping[str, Sequence[Value]]
"""A tidy table: columns of equal length by name. The same table is drawn, copied as CSV and read by tests."""


NUM_COLOURS, NUM_DASHES = 8, 3
"""The sizes of the palettes; page.css and plots.js use the same numbers."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """The style of one treatment in all plots and tables.

    ``index`` is its place in the ranking. ``number`` selects colour and dash: numbers below NUM_COLOURS are the colours
    of the palette, and larger ones repeat the colours with another dash. It is None for the baseline.
    """

    label: str
    index: int
    number: int | None

    @property
    def css(self) -> str:
        """The CSS classes, as defined in page.css."""
        if self.number is None:
            return "base"
        return f"c{self.number % NUM_COLOURS} d{self.number // NUM_COLOURS % NUM_DASHES}"


Styles = Mapping[str, Style]
"""The styles by the treatments' labels, best first."""


def styles_of(labels: Sequence[str], *, baseline: str) -> Styles:
    """Return the styles of ``labels``.

    They are assigned in alphabetical order, so that a treatment keeps its style when the ranking changes.
    """
    ordered = sorted(label for label in labels if label != baseline)
    return {
        label: Style(label=label, index=index, number=None if label == baseline else ordered.index(label))
        for index, label in enumerate(labels)
    }


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One option of a switch: its ``value`` for the drawing code and its ``label`` on the page."""

    value: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One plot of ``table``, drawn by the function of plots.js with the name ``kind``.

    ``switches`` maps the name of a switch to its choices; the first one is selected at the start. ``notes`` are texts
    on what is left out. An empty table is not drawn: the page then shows the text ``absent`` in place of the plot.
    """

    id: str
    title: str
    caption: str
    kind: Literal["intervals", "curves", "heat", "shares"]
    table: Columns
    options: Mapping[str, object]
    switches: Mapping[str, Sequence[Choice]]
    notes: Sequence[str]
    absent: str

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(self.table.values())


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One table cell: its ``text``, its ``sort`` key (None is sorted last) and its ``links`` (text and address).

    ``tone`` is the CSS class of the text: ``better``, ``worse``, ``failed`` or none. ``mark`` is a note after a name,
    such as ``baseline``.
    """

    text: str
    sort: Value = None
    links: Sequence[tuple[str, str]] = ()
    tone: str = ""
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a displayed table; numbers are right-aligned."""

    title: str
    is_number: bool
    cells: Sequence[Cell]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A table that can be sorted and filtered: ``columns`` are displayed, ``table`` is copied as CSV.

    Both have the same rows; ``labels`` has the treatment of each row.
    """

    id: str
    title: str
    caption: str
    labels: Sequence[str]
    columns: Sequence[Column]
    table: Columns
    notes: Sequence[str]


def tidy(names: Sequence[str], rows: Iterable[Sequence[Value]]) -> dict[str, list[Value]]:
    """Return ``rows`` as columns with the names ``names``; without rows the columns are empty."""
    table: dict[str, list[Value]] = {name: [] for name in names}
    for row in rows:
        for name, value in zip(names, row, strict=True):
            table[name].append(value)
    return table


def encoded(table: Columns) -> dict[str, object]:
    """Return a compact form of a table for the page: texts as indices into ``levels``, floats with 6 digits.

    Labels repeat in every row, so indices keep the file small.
    """
    return {name: _encoded_column(values) for name, values in table.items()}


def _encoded_column(values: Sequence[Value]) -> object:
    if not any(isinstance(value, str) for value in values):
        return [float(f"{value:.6g}") if isinstance(value, float) else value for value in values]
    levels = {value: index for index, value in enumerate(dict.fromkeys(values))}
    return {"levels": list(levels), "codes": [levels[value] for value in values]}
