"""Draw a comparison on the terminal: whole numbers at 80 columns, one line a sampler where there is room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mobile_vla.compare.comparison import Comparison, Metric, Row
from mobile_vla.compare.number_format import MISSING, NumberFormat, duration
from mobile_vla.compare.statistics import PairedDifference
from mobile_vla.compare.verdict import is_indicative, verdict

SECONDARY = ("val/loss", "train/loss", "probe/rmse", "unseen/rmse")
"""Metrics beside the primary one; a column appears where a run has it."""

COMPARABLE = tuple(name for name in SECONDARY if name != "train/loss")
"""The training loss is of the windows each sampler chose, the probe of the same ones for all: the loss yields first."""

LAYOUTS = ((" ", 2, SECONDARY), ("\n", 1, SECONDARY), ("\n", 1, COMPARABLE), ("\n", 0, COMPARABLE))
"""From roomy to tight: what stands between a mean and its spread, the padding between columns, and the metrics."""

REFERENCES = {
    "baseline/mean/rmse": "mean action",
    "baseline/hold_last/rmse": "hold-last action",
    "baseline/time_lookup/rmse": "time-step lookup",
    "baseline/scenario_time_lookup/rmse": "(scenario, time step) lookup",
}


def print_comparison(comparison: Comparison, *, folder: Path, console: Console) -> None:
    """Print what was compared, the samplers, the reference predictors, what did not finish, and the verdict."""
    console.print()
    console.print(Text(_headline(comparison, folder), style="bold"))
    console.print()
    console.print(_samplers(comparison, console))
    console.print()
    if comparison.reference.keys() & REFERENCES.keys():
        console.print(Text(f"Reference predictors, {comparison.primary}", style="bold"))
        console.print(_references(comparison))
        console.print()
    if comparison.unfinished:
        console.print(_unfinished(comparison))
        console.print()
    for sentence in verdict(comparison):
        console.print(Text(sentence))
    console.print()


def _headline(comparison: Comparison, folder: Path) -> str:
    num_runs = sum(len(row.runs) for row in comparison.rows)
    parts = [f"{folder.name}: {_count(len(comparison.rows), 'sampler')}, {_count(num_runs, 'run')}"]
    shared = comparison.shared
    if shared["steps"] is not None:
        parts.append(f"{shared['steps']} steps of {shared['batch_size']} windows")
    if shared["commit"] is not None:
        commit, dash, state = str(shared["commit"]).partition("-")
        parts.append(f"commit {commit[:10]}{dash}{state}")
    return ", ".join(parts)


def _samplers(comparison: Comparison, console: Console) -> Table:
    """Return the table in the roomiest layout that fits; in the last one a long label is folded, never a number."""
    tables = [
        _samplers_in_layout(comparison, gap=gap, padding=padding, secondary=secondary)
        for gap, padding, secondary in LAYOUTS
    ]
    # A table is measured within the width it is given, so one that does not fit shows only where there is no limit.
    unlimited = console.options.update(width=10_000)
    fitting = (table for table in tables if console.measure(table, options=unlimited).maximum <= console.width)
    return next(fitting, tables[-1])


def _samplers_in_layout(comparison: Comparison, *, gap: str, padding: int, secondary: Sequence[str]) -> Table:
    names = [name for name in secondary if name in comparison.rows[0].metrics]
    formats = {
        name: NumberFormat.of(row.metrics[name].mean for row in comparison.rows)
        for name in [comparison.primary, *names]
    }
    unit = f"{gap}[{comparison.action_unit}]" if comparison.action_unit else ""
    headers = [comparison.primary + unit, f"difference to{gap}baseline, 95 %"]
    headers += [name.replace("/", f"/{gap.strip(' ')}") for name in names]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, padding, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("sampler", overflow="fold")
    for header in ["n", *headers, "wall"]:
        table.add_column(Text(header), justify="right", no_wrap=True)
    for row in comparison.rows:
        table.add_row(*_cells(row, comparison, formats, gap=gap))
    return table


def _cells(row: Row, comparison: Comparison, formats: Mapping[str, NumberFormat], *, gap: str) -> list[Text]:
    primary = row.metrics[comparison.primary]
    mark = "*" if is_indicative(row, comparison.primary) else ""
    wall = row.metrics["wall_s"].mean if "wall_s" in row.metrics else None
    cells = [_name(row, comparison, gap=gap), Text(f"{row.num_done}{mark}")]
    for name, numbers in formats.items():
        cells.append(_spread(row.metrics[name], numbers, gap=gap if "rmse" in name else None))
        if name == comparison.primary:
            cells.append(_difference(primary.difference, numbers, gap=gap))
    if not primary.values:
        cells[2] = _absence(row)
    return [*cells, Text(duration(wall))]


def _name(row: Row, comparison: Comparison, *, gap: str) -> Text:
    text = Text(row.label, style="bold" if row.label == comparison.baseline else "")
    if row.label == comparison.baseline:
        text.append(f"{gap}(baseline)", style="dim")
    if row.num_done and row.count("failed"):
        text.append(f"\n({row.count('failed')} failed)", style="red")
    return text


def _absence(row: Row) -> Text:
    """Say why a sampler has no value: a word, so that it cannot be read as a result."""
    if row.count("failed"):
        return Text("failed", style="bold red")
    return Text(MISSING if row.num_done else "unfinished", style="yellow")


def _spread(metric: Metric, numbers: NumberFormat, *, gap: str | None) -> Text:
    """Write the mean and, after ``gap``, the standard deviation over seeds; None leaves it out."""
    text = Text(numbers.text(metric.mean))
    if gap is not None and metric.std is not None:
        text.append(f"{gap}±{numbers.text(metric.std)}", style="dim")
    return text


def _difference(difference: PairedDifference | None, numbers: NumberFormat, *, gap: str) -> Text:
    if difference is None or difference.mean is None:
        return Text("" if difference is None else MISSING)
    style = ("green" if difference.mean < 0 else "red") if difference.excludes_zero else ""
    text = Text(numbers.text(difference.mean, sign="+"), style=style)
    if difference.interval is not None:
        low, high = (numbers.text(end, sign="+") for end in difference.interval)
        text.append(f"{gap}[{low}, {high}]")
    return text


def _references(comparison: Comparison) -> Table:
    known = {name: comparison.reference.get(key) for key, name in REFERENCES.items()}
    numbers = NumberFormat.of(known.values())
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, value in known.items():
        table.add_row(Text(name), Text(numbers.text(value)))
    return table


def _unfinished(comparison: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for header in ("not ranked", "seed", "status", "reason"):
        table.add_column(header, overflow="fold")
    for label, run in comparison.unfinished:
        seed = MISSING if run.seed is None else str(run.seed)
        style = "red" if run.status == "failed" else "yellow"
        table.add_row(Text(label), Text(seed), Text(run.status, style=style), Text(run.error or MISSING))
    return table


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
