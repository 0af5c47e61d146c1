"""Compare the runs in a folder: print the table, and write comparison.csv, comparison.json and report.html there."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_vla.compare.data.comparability import ComparabilityError
from mobile_vla.compare.data.comparison import Comparison, Metric, Row, compare_runs
from mobile_vla.compare.data.planned import load_study
from mobile_vla.compare.data.runs import MISSING
from mobile_vla.compare.page.page import write_page
from mobile_vla.compare.statistics.estimates import PairedDifference
from mobile_vla.compare.terminal.comparison_table import print_comparison
from mobile_vla.compare.verdict.verdict import verdict
from mobile_vla.metrics import entry_of
from mobile_vla.storage.disk import write_atomically
from mobile_vla.tracking.wandb.recordings import viewing_hint

if TYPE_CHECKING:
    from rich.console import Console


def compare_folder(folder: Path, *, baseline: str | None = None, console: Console) -> Comparison:
    """Compare all runs in ``folder`` or below with ``baseline`` (a label); print the result and write it to ``folder``.

    Without ``baseline``, the study's baseline is used. Planned jobs that never started are part of
    ``Comparison.unfinished``. Raises UserError if there is no run and ComparabilityError if the runs cannot be ranked;
    then nothing is written.
    """
    runs = load_study(folder)
    try:
        comparison = compare_runs(runs, baseline=baseline)
    except ComparabilityError as error:
        # The error must not hide that some runs failed as well.
        others = [f"{run.folder.name} is {run.status}: {run.error}" for run in runs if not run.is_done]
        raise ComparabilityError("\n  ".join([str(error), *others])) from error
    write_json(comparison, folder / "comparison.json")
    write_csv(comparison, folder / "comparison.csv")
    write_page(comparison, folder / "report.html")
    print_comparison(comparison, folder=folder, console=console)
    for name in ("comparison.csv", "comparison.json", "report.html"):
        console.print(str(folder / name), style="dim", markup=False, highlight=False, soft_wrap=True)
    if (hint := viewing_hint(folder)) is not None:
        console.print(f"offline runs side by side: {hint}", style="dim", markup=False, highlight=False, soft_wrap=True)
    return comparison


def write_json(comparison: Comparison, path: Path) -> None:
    """Write the whole comparison as strict JSON: one row per sampler, ``null`` for every missing number.

    A row has ``sampler`` (its label), ``n``, ``failed``, ``unfinished`` (stopped or running) and ``missing`` (planned,
    never started). Each metric of a row has ``mean``, ``std``, ``iqm``, ``values`` by seed, and the comparison with the
    baseline: ``improvement``, ``paired_difference``, ``paired_ci95`` [low, high], ``paired_n``, ``paired_t_p`` and
    ``paired_sign_flip_p``. The primary metric also has ``paired_t_p_holm``, ``episode_ci95`` and ``verdict``: ``sure``,
    ``indicative`` or ``not told apart``. All other metrics are secondary, and their p values are not adjusted. The
    costs are metrics too: ``samples_seen``, ``windows_scored`` and ``wall_s``. ``paired_drives`` contains the fields of
    PairedDrives for each closed-loop suite. ``different_states`` lists, by suite, the runs with different initial
    states, which are not compared in that suite. ``controls`` contains the same statistics for the difference in the
    primary metric of each pair that the study named. ``verdict`` contains the conclusions as sentences.
    """
    content = {
        "baseline": comparison.baseline,
        "primary": comparison.primary,
        "verdict": verdict(comparison),
        "rows": [_row(row, comparison.primary) for row in comparison.rows],
        "controls": [
            {"sampler": pair.label, "control": pair.control, **_paired(pair.difference), **_primary(pair.difference)}
            for pair in comparison.controls
        ],
        **comparison.shared,
        "reference": dict(comparison.reference),
        "different_states": dict(comparison.different_states),
        "failed_runs": _not_finished(comparison, {"failed"}, path.parent),
        "unfinished_runs": _not_finished(comparison, {"stopped", "running"}, path.parent),
        "missing_runs": _not_finished(comparison, {MISSING}, path.parent),
    }
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write one line per run and one column per metric, ready for a pivot table or ``groupby('label')``.

    The columns are ``label``, ``sampler``, ``seed``, ``status``, ``error``, ``folder`` (relative to the file),
    ``control`` (the label of the sampler's control, if the study named one), then the metrics under their own names. A
    suite's metrics by scenario and by type of failure are left out, because there would be three times as many columns;
    they are in ``comparison.json``. Unfinished runs have a line too, without numbers. A missing number is an empty
    cell. A text that a spreadsheet would run as a formula gets an apostrophe in front, because a label may come from a
    run of somebody else.
    """
    names = [name for name in comparison.rows[0].metrics if not entry_of(name).is_detail]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", "sampler", "seed", "status", "error", "folder", "control", *names])
    controls = {pair.label: pair.control for pair in comparison.controls}
    for row in comparison.rows:
        for run in row.runs:
            numbers = run.numbers if run.is_done else {}
            where = run.folder.relative_to(path.parent).as_posix()
            recorded = [row.label, run.sampler, run.seed, run.status, run.error, where, controls.get(row.label)]
            writer.writerow([*map(_no_formula, recorded), *(numbers.get(name) for name in names)])
    write_atomically(path, text.getvalue())


def _no_formula(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _row(row: Row, primary: str) -> dict[str, object]:
    return {
        "sampler": row.label,
        "n": row.num_done,
        "failed": row.count("failed"),
        "unfinished": row.count("stopped") + row.count("running"),
        "missing": row.count(MISSING),
        "paired_drives": {suite: asdict(drives) for suite, drives in row.drives.items()},
        **{
            name: {**_metric(metric), **(_primary(metric.difference) if name == primary else {})}
            for name, metric in row.metrics.items()
        },
    }


def _metric(metric: Metric) -> dict[str, object]:
    difference = metric.difference
    return {
        "mean": metric.mean,
        "std": metric.std,
        "iqm": metric.iqm,
        "values": {str(seed): value for seed, value in metric.values.items()},
        "improvement": metric.improvement,
        **_paired(difference),
    }


def _paired(difference: PairedDifference | None) -> dict[str, object]:
    return {
        "paired_difference": difference.mean if difference else None,
        "paired_ci95": list(difference.interval) if difference and difference.interval else None,
        "paired_n": difference.num_pairs if difference else 0,
        "paired_t_p": difference.t_p_value if difference else None,
        "paired_sign_flip_p": difference.p_value if difference else None,
    }


def _primary(difference: PairedDifference | None) -> dict[str, object]:
    if difference is None:
        return {}
    claim = "sure" if difference.is_sure else "indicative" if difference.is_significant else "not told apart"
    return {
        "paired_t_p_holm": difference.adjusted_p_value,
        "episode_ci95": list(difference.episode_interval) if difference.episode_interval else None,
        "verdict": claim,
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
