"""Assemble the page: one HTML file that contains everything, including plotly's JavaScript (once)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from mobile_vla.compare.data.comparison import Comparison
from mobile_vla.compare.page.blocks import Columns, Figure, Styles, encoded, styles_of
from mobile_vla.compare.page.curves import drawn_curves, learning_curves
from mobile_vla.compare.page.draws import phase_histogram, scenario_shares
from mobile_vla.compare.page.hardest import hardest_notes, hardest_table, hardest_windows
from mobile_vla.compare.page.intervals import paired_differences, success_by_suite
from mobile_vla.compare.page.markup import figure_html, filter_html, hardest_html, listing_html, paragraphs
from mobile_vla.compare.page.results import control_table, results
from mobile_vla.compare.page.run_files import RunFiles, load_run_files
from mobile_vla.compare.page.run_list import run_list
from mobile_vla.compare.page.slices import horizon_curves, phase_map, scenario_map
from mobile_vla.compare.verdict.verdict import verdict
from mobile_vla.html_pages.document import asset, html_document
from mobile_vla.storage.disk import write_atomically
from mobile_vla.text import counted


def write_page(comparison: Comparison, path: Path) -> None:
    """Write ``comparison``, with data from its runs' folders, as one HTML file that loads no other file.

    If a run did not record a file or the file is damaged, a note on the page says so in place of its data.
    """
    from plotly.offline import get_plotlyjs

    root = path.parent
    labels = [row.label for row in comparison.rows]
    styles = styles_of(labels, baseline=comparison.baseline)
    runs = load_run_files(comparison)
    windows = hardest_windows(runs)
    summary = [table for table in (results(comparison), control_table(comparison)) if table is not None]
    runs_table = run_list(comparison, root=root)
    figures = _figures(comparison, runs)
    tables = {block.id: block.table for block in (*figures, *summary, runs_table)} | {"hardest": hardest_table(windows)}
    body = Template(_part("page.html")).substitute(
        title=escape(root.name),
        headline=escape(_headline(comparison)),
        verdict=paragraphs(verdict(comparison)),
        filter=filter_html(styles, baseline=comparison.baseline),
        results="".join(listing_html(table, styles) for table in summary),
        figures="".join(map(figure_html, figures)),
        hardest=hardest_html(windows, hardest_notes(runs), styles, unit=comparison.unit(comparison.val_error)),
        runs=listing_html(runs_table, styles),
    )
    page = html_document(
        title=root.name,
        style=_part("page.css"),
        body=body,
        data=_data(styles, figures, tables),
        scripts=[get_plotlyjs(), _part("plots.js") + _part("page.js")],
    )
    write_atomically(path, page)


def _figures(comparison: Comparison, runs: Sequence[RunFiles]) -> list[Figure]:
    return [
        paired_differences(comparison),
        learning_curves(runs, comparison),
        scenario_map(comparison),
        phase_map(comparison),
        horizon_curves(comparison),
        success_by_suite(comparison),
        drawn_curves(runs),
        scenario_shares(comparison),
        phase_histogram(comparison),
    ]


def _headline(comparison: Comparison) -> str:
    num_runs = sum(row.num_begun for row in comparison.rows)
    parts = [counted(len(comparison.rows), comparison.compared), counted(num_runs, "run")]
    shared = comparison.shared
    if shared["steps"] is not None:
        parts.append(f"{shared['steps']} steps of {shared['batch_size']} windows")
    if shared["commit"] is not None:
        parts.append(f"commit {str(shared['commit'])[:10]}")
    return " · ".join(parts)


def _data(styles: Styles, figures: Sequence[Figure], tables: Mapping[str, Columns]) -> dict[str, object]:
    return {
        "samplers": [{"label": style.label, "style": style.number} for style in styles.values()],
        "figures": {
            figure.id: {
                "kind": figure.kind,
                "options": figure.options,
                "switches": {name: choices[0].value for name, choices in figure.switches.items()},
                "labels": {name: {c.value: c.label for c in choices} for name, choices in figure.switches.items()},
            }
            for figure in figures
            if not figure.is_empty
        },
        "tables": {id: encoded(table) for id, table in tables.items()},
    }


def _part(name: str) -> str:
    return asset("mobile_vla.compare.page", name)
