"""Print a comparison on the terminal: no number is cut at 80 columns; a treatment takes one line if there is room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mobile_vla.compare.data.closed_loop import success_key, suite_of_success
from mobile_vla.compare.data.comparison import Comparison, Row
from mobile_vla.compare.data.runs import MISSING as MISSING_JOB
from mobile_vla.compare.data.runs import RunRecord
from mobile_vla.compare.terminal.cells import cost_cell, difference_cell, spread_cell
from mobile_vla.compare.terminal.closed_loop_table import print_closed_loop
from mobile_vla.compare.terminal.forest_plot import print_forest
from mobile_vla.compare.terminal.layout import is_dense, new_table, roomiest
from mobile_vla.compare.verdict.verdict import is_indicative, verdict
from mobile_vla.metric_text import in_points, with_unit
from mobile_vla.metrics import references, shown, title_of
from mobile_vla.text import MAX_WIDTH, MISSING, Format, NumberFormat, ShareFormat, counted


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One layout of the main table: the text between a mean and its spread, the padding, and which columns it has.

    ``num_suites`` is the number of suites whose success is shown, and ``num_secondary`` the number of secondary metrics
    (all by default) out of those that the vocabulary shows in a table. ``robust`` adds the interquartile mean and the
    probability of improvement, ``has_intervals`` the confidence intervals.
    """

    gap: str
    padding: int
    num_suites: int
    num_secondary: int | None = None
    robust: bool = False
    has_intervals: bool = True


LAYOUTS = (
    Layout(gap=" ", padding=2, num_suites=2, robust=True),
    Layout(gap=" ", padding=2, num_suites=2),
    Layout(gap="\n", padding=1, num_suites=4),
    Layout(gap="\n", padding=1, num_suites=2),
    Layout(gap="\n", padding=1, num_suites=2, num_secondary=4),
    *(Layout(gap="\n", padding=0, num_suites=2, num_secondary=number) for number in (4, 3, 2, 1)),
    Layout(gap="\n", padding=0, num_suites=0, num_secondary=1),
)
"""From wide to narrow. The closed-loop table shows all suites, so two are enough here, because they take space from the
other metrics. The last metric is dropped first: the training loss, whose windows were chosen by each sampler."""

DENSE = (
    Layout(gap=" ", padding=2, num_suites=2, robust=True),
    Layout(gap=" ", padding=2, num_suites=2, num_secondary=4, has_intervals=False),
    Layout(gap=" ", padding=1, num_suites=2, num_secondary=1, has_intervals=False),
    Layout(gap=" ", padding=1, num_suites=0, num_secondary=0, has_intervals=False),
)
"""The layouts for many treatments: every row is one line, and in narrow ones only the forest plot has the intervals."""


def print_comparison(comparison: Comparison, *, folder: Path, console: Console) -> None:
    """Print the headline, the main table, the forest plot, the closed-loop results, unfinished runs and the verdict."""
    console.print()
    console.print(Text(_headline(comparison, folder), style="bold"))
    console.print()
    console.print(roomiest((_samplers(comparison, layout) for layout in _layouts(comparison)), console))
    console.print(Text(_legend(comparison), style="dim"))
    console.print()
    print_forest(comparison, console)
    print_closed_loop(comparison, console)
    if comparison.reference:
        title = with_unit(comparison.val_error, comparison.unit(comparison.val_error))
        console.print(Text(f"Reference predictors, {title}", style="bold"))
        console.print(_references(comparison))
        console.print()
    # Jobs that never started have no reason to show in this table; the verdict counts them.
    begun = [(label, run) for label, run in comparison.unfinished if run.status != MISSING_JOB]
    if begun:
        console.print(_unfinished(begun))
        console.print()
    for sentence in verdict(comparison):
        console.print(Text(sentence))
    console.print()


def _layouts(comparison: Comparison) -> tuple[Layout, ...]:
    return DENSE if is_dense(comparison) else LAYOUTS


def _legend(comparison: Comparison) -> str:
    is_tested = any(
        difference.adjusted_p_value is not None
        for row in comparison.rows
        if (difference := row.metrics[comparison.primary].difference)
    )
    p_text = " p: paired t test, adjusted by Holm." if is_tested else ""
    return (
        f"{comparison.primary_title} is the primary metric, named before the runs; all others are secondary.{p_text} "
        "windows: trained on + scored by the sampler in extra forward passes, a run."
    )


def _headline(comparison: Comparison, folder: Path) -> str:
    num_runs = sum(row.num_begun for row in comparison.rows)
    parts = [f"{folder.name}: {counted(len(comparison.rows), comparison.compared)}, {counted(num_runs, 'run')}"]
    shared = comparison.shared
    if shared["steps"] is not None:
        parts.append(f"{shared['steps']} steps of {shared['batch_size']} windows")
    if shared["commit"] is not None:
        commit, dash, state = str(shared["commit"]).partition("-")
        parts.append(f"commit {commit[:10]}{dash}{state}")
    return ", ".join(parts)


def _samplers(comparison: Comparison, layout: Layout) -> Table:
    primary, gap = comparison.primary, layout.gap
    usual = shown("table", error=comparison.val_error)[: layout.num_secondary]
    candidates = [*map(success_key, comparison.suites[: layout.num_suites]), *usual]
    names = [name for name in candidates if name in comparison.rows[0].metrics and name != primary]
    formats = {name: comparison.format(name) for name in (primary, *names)}
    title, *titles = [_title(comparison, name, gap=gap) for name in formats]
    baseline = f"baseline{in_points(primary)}"
    difference = f"difference to{gap}{baseline}, 95 %" if layout.has_intervals else f"difference to\n{baseline}"
    headers = [comparison.compared, "n", title, difference]
    headers += ["IQM", "P(better)"] if layout.robust else []
    headers += titles
    table = new_table([*headers, f"wall,{gap}windows"], num_left=1, padding=layout.padding)
    for row in comparison.rows:
        table.add_row(*_cells(row, comparison, formats, layout))
    return table


def _title(comparison: Comparison, name: str, *, gap: str) -> str:
    """Return the heading of a column.

    If ``gap`` is a line break, the heading is broken at slashes. The error's column has its unit there instead.
    """
    suite = suite_of_success(name)
    if suite is not None:
        return f"{suite}{gap}success"
    is_narrow = name == comparison.error and len(name) <= MAX_WIDTH
    title = name if is_narrow else name.replace("/", f"/{gap.strip(' ')}")
    return with_unit(title, comparison.column_unit(name), gap=gap)


def _cells(row: Row, comparison: Comparison, formats: Mapping[str, Format], layout: Layout) -> list[Text]:
    primary, gap = row.metrics[comparison.primary], layout.gap
    mark = "*" if is_indicative(row, comparison.primary) else ""
    cells = [_name(row, comparison, gap=gap), Text(f"{row.num_done}{mark}")]
    for name, numbers in formats.items():
        cells.append(spread_cell(row.metrics[name], numbers, gap=None if name.endswith("/loss") else gap))
        if name == comparison.primary:
            interval_gap = gap if layout.has_intervals else None
            cells.append(difference_cell(name, primary.difference, numbers.differences, gap=interval_gap))
            if layout.robust:
                cells += [Text(numbers.text(primary.iqm)), Text(ShareFormat().text(primary.improvement))]
    if not primary.values:
        cells[2] = _absence(row)
    return [*cells, cost_cell(row, gap=gap)]


def _name(row: Row, comparison: Comparison, *, gap: str) -> Text:
    text = Text(row.label, style="bold" if row.label == comparison.baseline else "")
    if row.label == comparison.baseline:
        text.append(f"{gap}(baseline)", style="dim")
    for status, style in (("failed", "red"), (MISSING_JOB, "yellow")):
        if row.num_done and row.count(status):
            text.append(f"{gap}({row.count(status)} {status})", style=style)
    return text


def _absence(row: Row) -> Text:
    """Return the reason why a treatment has no value, as a word that cannot be mistaken for a result."""
    if row.count("failed"):
        return Text("failed", style="bold red")
    if row.count(MISSING_JOB) == len(row.runs):
        return Text("missing", style="yellow")
    return Text(MISSING if row.num_done else "unfinished", style="yellow")


def _references(comparison: Comparison) -> Table:
    known = {title_of(name): comparison.reference.get(name) for name in references(comparison.val_error)}
    numbers = NumberFormat.of(known.values())
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, value in known.items():
        table.add_row(Text(name), Text(numbers.text(value)))
    return table


def _unfinished(begun: Sequence[tuple[str, RunRecord]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for header in ("not ranked", "seed", "status", "reason"):
        table.add_column(header, overflow="fold")
    seeds: dict[tuple[str, str, str], list[str]] = {}
    for label, run in begun:
        seed = MISSING if run.seed is None else str(run.seed)
        seeds.setdefault((label, run.status, run.error or MISSING), []).append(seed)
    for (label, status, reason), numbers in seeds.items():
        style = "red" if status == "failed" else "yellow"
        table.add_row(Text(label), Text(", ".join(numbers)), Text(status, style=style), Text(reason))
    return table
