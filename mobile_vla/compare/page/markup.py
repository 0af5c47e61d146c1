"""Render the page's blocks as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from mobile_vla.compare.page.blocks import Cell, Choice, Figure, Listing, Style, Styles
from mobile_vla.compare.page.hardest import Hard
from mobile_vla.text import NumberFormat


def figure_html(figure: Figure) -> str:
    """Return the placeholder of a plot with its texts and switches; if there are no data, the text ``absent``."""
    if figure.is_empty:
        body = f'<p class="absent">{escape(figure.absent)}</p>'
        return _block(figure.id, figure.title, "", body, figure.notes)
    switches = "".join(_switch(figure.id, name, choices) for name, choices in figure.switches.items())
    body = f'<div class="controls">{switches}</div><div class="plot" data-plot="{figure.id}"></div>'
    return _block(figure.id, figure.title, figure.caption, body, figure.notes)


def listing_html(listing: Listing, styles: Styles) -> str:
    """Return a table that can be sorted by its headers."""
    heads = "".join(
        f'<th scope="col"{_right(column.is_number)}><button type="button">{escape(column.title)}</button></th>'
        for column in listing.columns
    )
    rows = "".join(_row(listing, index, styles[label]) for index, label in enumerate(listing.labels))
    table = f'<table data-table="{listing.id}"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    body = f'<div class="scroll" tabindex="0">{table}</div>'
    return _block(listing.id, listing.title, listing.caption, body, listing.notes)


def hardest_html(windows: Sequence[Hard], notes: Sequence[str], styles: Styles, *, unit: str) -> str:
    """Return the hardest windows: their frames, a description, and plots of targets and predictions.

    ``unit`` is that of their errors; empty if there is none.
    """
    title = "Hardest windows"
    if not windows:
        return _block("hardest", title, "", '<p class="absent">No finished run has a hardest.json.</p>', notes)
    caption = (
        "Val windows with the highest RMSE, mean over runs; frames from oldest to current, black before the episode "
        "began. Below, for each action dimension: the target over the horizon (thick), and the predictions of the runs "
        "that list the window among their hardest."
    )
    numbers = NumberFormat.of(hard.mean for hard in windows)
    items = "".join(_hard(hard, numbers, styles, unit) for hard in windows)
    body = f'<div class="windows">{items}</div>'
    return _block("hardest", title, caption, body, notes)


def filter_html(styles: Styles, *, baseline: str) -> str:
    """Return the legend, which is also the filter: one checkbox per treatment, and a text field for parts of names."""
    items = "".join(
        f'<label class="sampler"><input type="checkbox" checked data-sampler="{style.index}">{_swatch(style)}'
        f"<span>{escape(style.label)}</span>{'<em>baseline</em>' if style.label == baseline else ''}</label>"
        for style in styles.values()
    )
    return (
        '<div class="legend"><input type="search" id="needle" placeholder="filter: a, b" aria-label="filter by name">'
        f'<div class="samplers">{items}</div></div>'
    )


def paragraphs(texts: Iterable[str]) -> str:
    """Return one paragraph per text; there is no line break between a number and its percent sign."""
    return "".join(f"<p>{escape(text).replace(' %', '&nbsp;%')}</p>" for text in texts)


def _swatch(style: Style) -> str:
    return f'<svg class="swatch {style.css}" viewBox="0 0 22 8" aria-hidden="true"><path d="M0 4h22"/></svg>'


def _block(id: str, title: str, caption: str, body: str, notes: Sequence[str]) -> str:
    words = f'<p class="caption">{escape(caption)}</p>' if caption else ""
    said = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    copy = f'<button type="button" class="copy" data-copy="{id}">Copy CSV</button>' if words else ""
    return f'<section id="{id}"><div class="head"><h2>{escape(title)}</h2>{copy}</div>{words}{body}{said}</section>'


def _switch(id: str, name: str, choices: Sequence[Choice]) -> str:
    if len(choices) < 2:
        return ""
    options = "".join(
        f'<label><input type="radio" name="{id}-{name}" value="{escape(choice.value)}"{" checked" * (index == 0)}>'
        f"<span>{escape(choice.label)}</span></label>"
        for index, choice in enumerate(choices)
    )
    return f'<div class="switch" role="radiogroup" aria-label="{name}">{options}</div>'


def _row(listing: Listing, index: int, style: Style) -> str:
    cells = "".join(
        _name_cell(column.cells[index], style) if position == 0 else _cell(column.cells[index], column.is_number)
        for position, column in enumerate(listing.columns)
    )
    return f'<tr data-row="{index}" data-sampler="{style.index}">{cells}</tr>'


def _name_cell(cell: Cell, style: Style) -> str:
    mark = f"<em>{escape(cell.mark)}</em>" if cell.mark else ""
    # On a phone, a long label is wrapped after "=" and not inside a word.
    text = escape(cell.text).replace("=", "=<wbr>")
    return f'<th scope="row"{_sort(cell)}>{_swatch(style)} {text}{mark}</th>'


def _cell(cell: Cell, is_number: bool) -> str:
    links = " ".join(f'<a href="{escape(target)}" rel="noopener">{escape(text)}</a>' for text, target in cell.links)
    text = f'<span class="{cell.tone}">{escape(cell.text)}</span>' if cell.tone else escape(cell.text)
    return f"<td{_sort(cell)}{_right(is_number)}>{text}{links}</td>"


def _sort(cell: Cell) -> str:
    return "" if cell.sort is None else f' data-sort="{escape(str(cell.sort))}"'


def _right(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _hard(hard: Hard, numbers: NumberFormat, styles: Styles, unit: str) -> str:
    window = hard.window
    episode, frame = window.key
    if hard.image is None:
        picture = f'<p class="absent">{escape(window.image.name)} is missing, too large, or not a JPEG or PNG.</p>'
    else:
        picture = f'<img alt="frames of {escape(episode)} up to frame {frame}" src="{hard.image.address}">'
    plots = "".join(_actions(hard, dimension, styles) for dimension in range(len(window.action_names)))
    error = f"RMSE {numbers.text(hard.mean)} {unit}".rstrip()
    return (
        f'<figure>{picture}<div class="actions">{plots}</div><figcaption><b>{escape(error)}</b>, '
        f"{len(hard.rmse)} runs · {escape(window.scenario)}, phase {window.phase} · {escape(episode)}, frame {frame}"
        "</figcaption></figure>"
    )


def _actions(hard: Hard, dimension: int, styles: Styles) -> str:
    """Return the plot of one action dimension over the horizon, scaled from its lowest to its highest value."""
    target = [row[dimension] if row else None for row in hard.window.target_KA]
    lines = [[row[dimension] for row in prediction.actions_KA] for prediction in hard.predictions]
    known = [value for line in (target, *lines) for value in line if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    predicted = "".join(
        _line(styles[prediction.label], f"{prediction.label}, seed {prediction.seed}", _points(line, low, high))
        for prediction, line in zip(hard.predictions, lines, strict=True)
    )
    return (
        f'<div><svg viewBox="-2 -2 104 44" role="img">{predicted}'
        f'<polyline class="target" points="{_points(target, low, high)}"><title>target</title></polyline></svg>'
        f"{escape(hard.window.action_names[dimension])}</div>"
    )


def _line(style: Style, title: str, points: str) -> str:
    title = f"<title>{escape(title)}</title>"
    return f'<polyline class="{style.css}" data-sampler="{style.index}" points="{points}">{title}</polyline>'


def _points(values: Sequence[float | None], low: float, high: float) -> str:
    width, height = 100 / max(len(values) - 1, 1), 40 / ((high - low) or 1)
    return " ".join(
        f"{k * width:.0f},{40 - (value - low) * height:.1f}" for k, value in enumerate(values) if value is not None
    )
