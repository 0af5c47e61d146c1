"""Compare a folder of runs: print the table, write comparison.csv and comparison.json beside them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_vla.compare.closed_loop import is_detail
from mobile_vla.compare.comparability import ComparabilityError
from mobile_vla.compare.comparison import Comparison, Metric, Row, compare_runs
from mobile_vla.compare.runs import DEFAULT_BASELINE, load_runs
from mobile_vla.compare.table import print_comparison
from mobile_vla.tracking.run_folder import write_atomically

if TYPE_CHECKING:
    from rich.console import Console


def compare_folder(folder: Path, *, baseline: str = DEFAULT_BASELINE, console: Console) -> Comparison:
    """Compare all runs at or below ``folder`` with ``baseline`` (a label), print and write the result into ``folder``.

    Raises UserError where there is no run, ComparabilityError where they cannot be ranked; nothing is written then.
    """
    runs = load_runs(folder)
    try:
        comparison = compare_runs(runs, baseline=baseline)
    except ComparabilityError as error:
        # A refusal must not hide that runs failed as well.
        others = [f"{run.folder.name} is {run.status}: {run.error}" for run in runs if not run.is_done]
        raise ComparabilityError("\n  ".join([str(error), *others])) from error
    write_json(comparison, folder / "comparison.json")
    write_csv(comparison, folder / "comparison.csv")
    print_comparison(comparison, folder=folder, console=console)
    for name in ("comparison.csv", "comparison.json"):
        console.print(str(folder / name), style="dim", markup=False, highlight=False, soft_wrap=True)
    return comparison


def write_json(comparison: Comparison, path: Path) -> None:
    """Write the whole comparison as strict JSON: one row a sampler, ``null`` for every number that is missing.

    A row is ``sampler`` (its label), ``n``, ``failed``, ``unfinished`` (stopped or running), and by metric ``mean``,
    ``std``, ``values`` by seed, ``paired_difference`` to the baseline, ``paired_ci95`` [low, high] and ``paired_n``.
    ``paired_drives`` holds, by suite of the closed loop, the fields of PairedDrives. ``different_states`` describes, by
    suite, which runs met other initial states, so that they are not compared there.
    """
    content = {
        "baseline": comparison.baseline,
        "primary": comparison.primary,
        "rows": [_row(row) for row in comparison.rows],
        **comparison.shared,
        "reference": dict(comparison.reference),
        "different_states": dict(comparison.different_states),
        "failed_runs": _not_finished(comparison, {"failed"}, path.parent),
        "unfinished_runs": _not_finished(comparison, {"stopped", "running"}, path.parent),
    }
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write one line a run and one column a metric, so that a pivot table or ``groupby('label')`` is all it takes.

    Columns: ``label``, ``sampler``, ``seed``, ``status``, ``error``, ``folder`` (relative to the file), then the
    metrics under their own names, except a suite's figures by scenario and by type of failure, which would treble the
    columns: they stand in ``comparison.json``. Runs that did not finish are lines too, without numbers. A missing
    number is an empty cell.
    """
    names = [name for name in comparison.rows[0].metrics if not is_detail(name)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", "sampler", "seed", "status", "error", "folder", *names])
    for row in comparison.rows:
        for run in row.runs:
            numbers = run.numbers if run.is_done else {}
            where = run.folder.relative_to(path.parent).as_posix()
            recorded = [row.label, run.sampler, run.seed, run.status, run.error, where]
            writer.writerow([*recorded, *(numbers.get(name) for name in names)])
    write_atomically(path, text.getvalue())


def _row(row: Row) -> dict[str, object]:
    return {
        "sampler": row.label,
        "n": row.num_done,
        "failed": row.count("failed"),
        "unfinished": row.count("stopped") + row.count("running"),
        "paired_drives": {suite: asdict(drives) for suite, drives in row.drives.items()},
        **{name: _metric(metric) for name, metric in row.metrics.items()},
    }


def _metric(metric: Metric) -> Mapping[str, object]:
    difference = metric.difference
    return {
        "mean": metric.mean,
        "std": metric.std,
        "values": {str(seed): value for seed, value in metric.values.items()},
        "paired_difference": difference.mean if difference else None,
        "paired_ci95": list(difference.interval) if difference and difference.interval else None,
        "paired_n": difference.num_pairs if difference else 0,
    }


def _not_finished(comparison: Comparison, statuses: set[str], root: Path) -> list[dict[str, object]]:
    return [
        {
            "folder": run.folder.relative_to(root).as_posix(),
            "sampler": label,
            "seed": run.seed,
            "status": run.status,
            "error": run.error,
        }
        for label, run in comparison.unfinished
        if run.status in statuses
    ]
