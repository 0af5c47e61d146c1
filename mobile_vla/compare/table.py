"""Draw a comparison on the terminal: whole numbers at 80 columns, one line a sampler where there is room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mobile_vla.compare.closed_loop import success_key
from mobile_vla.compare.closed_loop_table import print_closed_loop
from mobile_vla.compare.comparison import Comparison, Row
from mobile_vla.compare.layout import new_table, roomiest
from mobile_vla.compare.number_format import MISSING, NumberFormat, ShareFormat, duration
from mobile_vla.compare.table_cells import difference_cell, spread_cell
from mobile_vla.compare.verdict import is_indicative, verdict

SECONDARY = ("val/loss", "train/loss", "probe/rmse", "unseen/rmse")
"""Metrics beside the primary one and success; a column appears where a run has it."""

COMPARABLE = tuple(name for name in SECONDARY if name != "train/loss")
"""The training loss is of the windows each sampler chose, the probe of the same ones for all: the loss yields first."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What stands between a mean and its spread, the padding between columns, and the columns beside the primary."""

    gap: str
    padding: int
    num_suites: int
    secondary: tuple[str, ...]


LAYOUTS = (
    Layout(gap=" ", padding=2, num_suites=2, secondary=SECONDARY),
    Layout(gap="\n", padding=1, num_suites=4, secondary=SECONDARY),
    Layout(gap="\n", padding=1, num_suites=2, secondary=SECONDARY),
    Layout(gap="\n", padding=1, num_suites=2, secondary=COMPARABLE),
    Layout(gap="\n", padding=0, num_suites=2, secondary=COMPARABLE),
)
"""From roomy to tight. All suites stand in the closed loop's own table, so here the first two are enough."""

TIGHTER = (
    Layout(gap="\n", padding=0, num_suites=2, secondary=("probe/rmse", "unseen/rmse")),
    Layout(gap="\n", padding=0, num_suites=2, secondary=("probe/rmse",)),
)
"""For runs that drove: success takes the room of ``val/loss``, then that of ``unseen/rmse``."""

REFERENCES = {
    "baseline/mean/rmse": "mean action",
    "baseline/hold_last/rmse": "hold-last action",
    "baseline/time_lookup/rmse": "time-step lookup",
    "baseline/scenario_time_lookup/rmse": "(scenario, time step) lookup",
}


def print_comparison(comparison: Comparison, *, folder: Path, console: Console) -> None:
    """Print what was compared, the samplers, how they drove, the references, what did not finish, and the verdict."""
    console.print()
    console.print(Text(_headline(comparison, folder), style="bold"))
    console.print()
    layouts = (*LAYOUTS, *TIGHTER) if comparison.suites else LAYOUTS
    console.print(roomiest((_samplers(comparison, layout) for layout in layouts), console))
    console.print()
    print_closed_loop(comparison, console)
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
    parts = [f"{folder.name}: {_count(len(comparison.rows), comparison.compared)}, {_count(num_runs, 'run')}"]
    shared = comparison.shared
    if shared["steps"] is not None:
        parts.append(f"{shared['steps']} steps of {shared['batch_size']} windows")
    if shared["commit"] is not None:
        commit, dash, state = str(shared["commit"]).partition("-")
        parts.append(f"commit {commit[:10]}{dash}{state}")
    return ", ".join(parts)


def _samplers(comparison: Comparison, layout: Layout) -> Table:
    successes = {success_key(suite): suite for suite in comparison.suites[: layout.num_suites]}
    names = [name for name in layout.secondary if name in comparison.rows[0].metrics]
    formats: dict[str, NumberFormat | ShareFormat] = {
        name: ShareFormat() if name in successes else NumberFormat.of(row.metrics[name].mean for row in comparison.rows)
        for name in [comparison.primary, *successes, *names]
    }
    unit = f"{layout.gap}[{comparison.action_unit}]" if comparison.action_unit else ""
    headers = [comparison.compared, "n", comparison.primary + unit, f"difference to{layout.gap}baseline, 95 %"]
    headers += [f"{suite}{layout.gap}success" for suite in successes.values()]
    headers += [name.replace("/", f"/{layout.gap.strip(' ')}") for name in names]
    table = new_table([*headers, "wall"], num_left=1, padding=layout.padding)
    for row in comparison.rows:
        table.add_row(*_cells(row, comparison, formats, gap=layout.gap))
    return table


def _cells(
    row: Row, comparison: Comparison, formats: Mapping[str, NumberFormat | ShareFormat], *, gap: str
) -> list[Text]:
    primary = row.metrics[comparison.primary]
    mark = "*" if is_indicative(row, comparison.primary) else ""
    wall = row.metrics["wall_s"].mean if "wall_s" in row.metrics else None
    cells = [_name(row, comparison, gap=gap), Text(f"{row.num_done}{mark}")]
    for name, numbers in formats.items():
        cells.append(spread_cell(row.metrics[name], numbers, gap=None if name.endswith("/loss") else gap))
        if name == comparison.primary:
            cells.append(difference_cell(name, primary.difference, numbers, gap=gap))
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
