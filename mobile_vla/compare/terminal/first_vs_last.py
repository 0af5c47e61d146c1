"""Print each metric at the first evaluation after step 0 and at the last one, as in the project's first report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from mobile_vla.compare.data.comparability import error_that_decides, require_comparable
from mobile_vla.compare.data.runs import RunRecord, is_finite_number, load_runs, runs_by_label
from mobile_vla.compare.statistics.estimates import mean
from mobile_vla.errors import UserError
from mobile_vla.metrics import entry_of, reference_name, shown
from mobile_vla.text import MISSING, NumberFormat
from mobile_vla.untrusted.files import inside, lines_of, parse_row

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Change:
    """A metric at the first and the last evaluation, each as a mean over seeds, and the steps of both evaluations."""

    first: float
    last: float
    first_step: int
    last_step: int

    @property
    def percent(self) -> float | None:
        """The change from first to last in % of the first value, None if that is 0."""
        return 100 * (self.last - self.first) / self.first if self.first else None


def report_first_vs_last(folder: Path, console: Console) -> None:
    """Print the change of loss and RMSE for each treatment, and the error of the (scenario, time step) lookup.

    Only finished runs are used. Raises UserError if there is no run or a log is damaged, ComparabilityError if the runs
    cannot be compared. Source of the table: the project's founding report, 2025-12-04.
    """
    runs = load_runs(folder)
    require_comparable(runs)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("sampler", overflow="fold")
    table.add_column("metric", no_wrap=True)
    for header in ("steps", "first", "last", "change", "lookup"):
        table.add_column(header, justify="right", no_wrap=True)
    for label, members in runs_by_label(runs).items():
        for row in _rows(label, [run for run in members if run.is_done]):
            table.add_row(*map(Text, row))
        table.add_section()
    console.print()
    console.print(Text("First evaluation after step 0 and last evaluation, mean over seeds", style="bold"))
    console.print(table)
    console.print(
        Text("lookup: RMSE of the (scenario, time step) lookup table on val, which sees no image.", style="dim")
    )


def changes(runs: Sequence[RunRecord]) -> dict[str, Change]:
    """Return the Change of each reported metric over ``runs``, the seeds of one treatment, if a run has logged it.

    All metrics are read at the same two steps: the first and the last step after 0 at which all of them were logged.
    """
    logs = [_read_log(run.folder) for run in runs]
    # There is no training loss at step 0, and epoch 0 of the report was measured after one epoch, not before it.
    trained = [[row for row in log if row["step"] > 0] for log in logs]
    listed = shown("changes", error=error_that_decides(runs))
    names = [name for name in listed if any(_has(row, name) for log in trained for row in log)]
    complete = [[row for row in log if all(_has(row, name) for name in names)] for log in trained]
    series = [rows for rows in complete if rows]
    if not series:
        return {}
    return {
        name: Change(
            first=fmean(rows[0][name] for rows in series),
            last=fmean(rows[-1][name] for rows in series),
            first_step=int(series[0][0]["step"]),
            last_step=int(series[0][-1]["step"]),
        )
        for name in names
    }


def _has(row: Mapping[str, object], name: str) -> bool:
    return is_finite_number(row.get(name))


def _rows(label: str, runs: Sequence[RunRecord]) -> list[list[str]]:
    found = changes(runs)
    if not found:
        return [[label, "no evaluation after step 0" if runs else "no finished run", *[MISSING] * 5]]
    reference = reference_name("scenario_time_lookup", error_that_decides(runs))
    lookup = mean([run.numbers[reference] for run in runs if reference in run.numbers])
    rows = []
    for name, change in found.items():
        numbers = NumberFormat.of((change.first, change.last))
        rows.append(
            [
                "" if rows else label,
                name,
                f"{change.first_step} to {change.last_step}",
                numbers.text(change.first),
                numbers.text(change.last),
                MISSING if change.percent is None else f"{change.percent:+.1f} %",
                numbers.text(lookup) if entry_of(name).unit in ("action", "spread") else "",
            ]
        )
    return rows


def _read_log(run: Path) -> list[dict[str, float]]:
    rows, path = [], inside(run, "metrics.jsonl")
    if not path.exists():
        raise UserError(f"{path}: missing; expected the log of a finished run. Train the run again or leave it out.")
    for place, line in lines_of(path):
        try:
            rows.append(parse_row(line, place=place))
        except UserError as error:
            raise UserError(f"{error}; train the run again or leave it out.") from error
    return rows
