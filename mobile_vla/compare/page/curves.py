"""Figures of the training logs: errors and losses, and how much of the data the sampler has drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mobile_vla.compare.data.comparison import Comparison
from mobile_vla.compare.page.blocks import Choice, Figure, Value, tidy
from mobile_vla.compare.page.run_files import LOG, RunFiles, problems_of
from mobile_vla.metrics import shown, title_of

AXES = {
    "step": "steps",
    "samples_seen": "samples seen",
    "windows_processed": "samples seen + windows scored",
    "wall_s": "seconds",
}

MAX_POINTS = 120
"""A run is drawn with at most about this many points: a screen cannot show more, and 120 runs stay a small file."""


def learning_curves(files: Sequence[RunFiles], comparison: Comparison) -> Figure:
    """Return the figure of errors and losses of every run, with mean and standard deviation over seeds."""
    names = tuple(dict.fromkeys((comparison.primary, *shown("curves", error=comparison.val_error))))
    return _curves(
        files,
        id="learning",
        title="Learning curves",
        caption="Mean over seeds, band of ± one standard deviation, and each run as a thin line. The first tenth of "
        "the steps is ignored when the scale is chosen; a double click shows all values.",
        metrics=names,
        options={
            "group": "step",
            "skips_start": True,
            "units": {name: comparison.unit(name) for name in names},
        },
    )


def drawn_curves(files: Sequence[RunFiles]) -> Figure:
    """Return the figure of coverage and other statistics of the drawn windows over the steps."""
    return _curves(
        files,
        id="coverage",
        title="Coverage over the budget",
        caption="Coverage is the share of train windows drawn at least once. Effective sample size: (Σv)² / Σv² of the "
        "visits v, as a share of the train windows.",
        metrics=shown("draws"),
        options={"group": "step", "from_zero": True},
    )


def _curves(
    files: Sequence[RunFiles],
    *,
    id: str,
    title: str,
    caption: str,
    metrics: Sequence[str],
    options: Mapping[str, object],
) -> Figure:
    logs = [
        (file, [row for row in file.log if any(_number(row, name) is not None for name in metrics)]) for file in files
    ]
    present = [name for name in metrics if any(_number(row, name) is not None for _, log in logs for row in log)]
    has_scored = any(row.get("windows_scored") for _, log in logs for row in log)
    axes = [name for name in AXES if name != "windows_processed" or has_scored]
    rows: list[list[Value]] = [
        [
            file.label,
            file.seed,
            *(_position(row, axis) for axis in axes),
            *(_number(row, name) for name in present),
        ]
        for file, log in logs
        for row in _thinned(log, present)
    ]
    return Figure(
        id=id,
        title=title,
        caption=caption,
        kind="curves",
        table=tidy(["sampler", "seed", *axes, *present], rows),
        options=options,
        switches={
            "metric": [Choice(value=name, label=title_of(name)) for name in present],
            "axis": [Choice(value=axis, label=AXES[axis]) for axis in axes],
        },
        notes=problems_of(files, LOG),
        absent=f"No finished run logged {', '.join(title_of(name) for name in metrics)} in its {LOG}.",
    )


def _thinned(log: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """Return up to MAX_POINTS evaluations and as many rows without an evaluation, evenly spaced, with the last ones."""
    evaluations = [row for row in log if metrics[0] in row]
    others = [row for row in log if metrics[0] not in row]
    kept = [*_evenly(evaluations), *_evenly(others)]
    return sorted(kept, key=lambda row: row["step"])


def _evenly(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    stride = -(-len(rows) // MAX_POINTS)
    # Thinned from the end backwards, so that the last row is always kept: it has the final values.
    return rows[::-1][:: max(stride, 1)][::-1]


def _position(row: Mapping[str, Any], axis: str) -> float | int | None:
    if axis != "windows_processed":
        return row.get(axis)
    return row.get("samples_seen", 0) + row.get("windows_scored", 0)


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    return value if isinstance(value, int | float) else None
