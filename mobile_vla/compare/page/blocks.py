"""Describe what the page shows: plots, tables and the words around them, before any of it is HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Value = str | float | int | None

Columns = Mapping[str, Sequence[Value]]
"""A tidy table: equally long columns by name. What is drawn, what is copied as CSV and what a test reads are one."""


NUM_COLOURS, NUM_DASHES = 8, 3


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one sampler looks everywhere: its place in the ranking, and its ``style`` (None for the baseline).

    Styles below NUM_COLOURS are the palette's colours, further ones the same with another dash.
    """

    label: str
    index: int
    style: int | None

    @property
    def css(self) -> str:
        """Classes of the page's style sheet."""
        if self.style is None:
            return "base"
        return f"c{self.style % NUM_COLOURS} d{self.style // NUM_COLOURS % NUM_DASHES}"


Looks = Mapping[str, Look]
"""By the samplers' labels, best first."""


def looks_of(labels: Sequence[str], *, baseline: str) -> Looks:
    """Give out styles in the order of the names, so that a sampler keeps its look when the ranking changes."""
    ordered = sorted(label for label in labels if label != baseline)
    return {
        label: Look(label=label, index=index, style=None if label == baseline else ordered.index(label))
        for index, label in enumerate(labels)
    }


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One option of a switch: its ``value`` for the drawing code and the word a reader sees."""

    value: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One plot of ``table``, drawn by the function of plots.js that ``kind`` names.

    ``switches`` maps the name of a switch to its choices, the first one chosen. ``notes`` say what is left out. An
    empty table is not drawn: ``absent`` then says in its place what is missing and why.
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
    """One cell: the ``text``, what it sorts by (None last), and where it leads.

    ``tone`` is the class of the text: ``better``, ``worse``, ``failed`` or nothing. ``mark`` stands behind a name, as
    ``baseline`` does.
    """

    text: str
    sort: Value = None
    links: Sequence[tuple[str, str]] = ()
    tone: str = ""
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table as it is read; numbers stand to the right."""

    title: str
    is_number: bool
    cells: Sequence[Cell]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A table to read, sort and filter: ``columns`` as shown, ``table`` as copied, row for row; ``labels`` by row."""

    id: str
    title: str
    caption: str
    labels: Sequence[str]
    columns: Sequence[Column]
    table: Columns
    notes: Sequence[str]


def tidy(names: Sequence[str], rows: Iterable[Sequence[Value]]) -> dict[str, list[Value]]:
    """Turn rows into columns named ``names``; no row gives empty columns."""
    table: dict[str, list[Value]] = {name: [] for name in names}
    for row in rows:
        for name, value in zip(names, row, strict=True):
            table[name].append(value)
    return table


def encoded(table: Columns) -> dict[str, object]:
    """Make a table small: words become numbers into a list of ``levels``, floats keep 6 significant digits."""
    return {name: _encoded_column(values) for name, values in table.items()}


def _encoded_column(values: Sequence[Value]) -> object:
    if not any(isinstance(value, str) for value in values):
        return [float(f"{value:.6g}") if isinstance(value, float) else value for value in values]
    levels = {value: index for index, value in enumerate(dict.fromkeys(values))}
    return {"levels": list(levels), "codes": [levels[value] for value in values]}
