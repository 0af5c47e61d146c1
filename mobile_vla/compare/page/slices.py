"""Figures of the error by scenario, by phase of the drive, and by step of the horizon."""

from __future__ import annotations

from collections.abc import Sequence

from mobile_vla.compare.data.comparison import Comparison
from mobile_vla.compare.page.blocks import Choice, Figure, Value, tidy
from mobile_vla.metrics import parts_of

AGGREGATES = ("scenario_mean",)
"""Parts that are named like a scenario but are means over scenarios."""

MODES = (Choice(value="rmse", label="RMSE"), Choice(value="difference", label="difference to baseline"))
"""``rmse`` is the column of the error that decides, in the unit of the actions or in units of their spread in train."""


def scenario_map(comparison: Comparison) -> Figure:
    """Return the heat map of RMSE by treatment and scenario."""
    return _heat(comparison, part="scenario", title="RMSE by scenario", noun="scenarios")


def phase_map(comparison: Comparison) -> Figure:
    """Return the heat map of RMSE by treatment and phase."""
    return _heat(comparison, part="phase", title="RMSE by phase", noun="phases")


def horizon_curves(comparison: Comparison) -> Figure:
    """Return the figure of RMSE over the steps of the horizon, with mean, band and single runs."""
    return Figure(
        id="horizon",
        title="RMSE over the horizon",
        caption="Error of the k-th predicted action; mean over seeds ± one standard deviation.",
        kind="curves",
        table=_table(comparison, "horizon"),
        options={"group": "horizon", "units": {"rmse": comparison.unit(comparison.val_error)}},
        switches={
            "metric": [Choice(value="rmse", label="RMSE")],
            "axis": [Choice(value="horizon", label="predicted step")],
        },
        notes=(),
        absent=f"No finished run has {comparison.val_error} by horizon.",
    )


def _heat(comparison: Comparison, *, part: str, title: str, noun: str) -> Figure:
    return Figure(
        id=part,
        title=title,
        caption=f"Mean over seeds; hover shows the runs. Val windows of all {noun} at the last step.",
        kind="heat",
        table=_table(comparison, part),
        options={"slice": part, "unit": comparison.unit(comparison.val_error), "baseline": comparison.baseline},
        switches={"mode": MODES if comparison.baseline_row else MODES[:1]},
        notes=(),
        absent=f"No finished run has {comparison.val_error} by {part}.",
    )


def _table(comparison: Comparison, part: str) -> dict[str, list[Value]]:
    rows: list[Sequence[Value]] = []
    for row in comparison.rows:
        found = parts_of(row.metrics, f"{comparison.val_error}/{part}_{{value*}}")
        named = {value: name for value, name in found.items() if f"{part}_{value}" not in AGGREGATES}
        for value in sorted(named, key=_natural):
            slice_value = int(value) if value.isdecimal() and part != "scenario" else value
            for seed, rmse in row.metrics[named[value]].values.items():
                rows.append([row.label, seed, slice_value, rmse])
    return tidy(["sampler", "seed", part, "rmse"], rows)


def _natural(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (0, text)
