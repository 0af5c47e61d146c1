"""Build the page's main table, with one row per treatment, and the table of the treatments that have a control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mobile_vla.compare.data.closed_loop import success_key
from mobile_vla.compare.data.comparison import Comparison, Metric, Row
from mobile_vla.compare.data.runs import MISSING as MISSING_JOB
from mobile_vla.compare.page.blocks import Cell, Column, Listing, Value
from mobile_vla.compare.statistics.estimates import PairedDifference
from mobile_vla.compare.verdict.verdict import is_indicative
from mobile_vla.metric_text import in_points, with_unit
from mobile_vla.metrics import best_first, is_better, references, shown, title_of
from mobile_vla.text import MISSING, Format, NumberFormat, ShareFormat, duration, interval_text, p_value

COUNTERS: Mapping[str, tuple[str, Callable[[float | None], str]]] = {
    "samples_seen": ("samples seen", lambda value: MISSING if value is None else f"{value:,.0f}"),
    "windows_scored": ("windows scored", lambda value: MISSING if value is None else f"{value:,.0f}"),
    "wall_s": ("wall", duration),
}
"""The columns of costs: heading and format."""

NOT_DONE = ("failed", "stopped", "running", MISSING_JOB)


def results(comparison: Comparison) -> Listing:
    """Return the table of all treatments with their metrics; in the CSV every number has its own column."""
    rows, known = comparison.rows, comparison.rows[0].metrics
    successes = [success_key(suite) for suite in comparison.suites]
    secondary = [
        name
        for name in (*successes, *shown("table", error=comparison.val_error))
        if name in known and name != comparison.primary
    ]
    counters = [name for name in COUNTERS if name in known]
    columns = [
        Column(title=comparison.compared, is_number=False, cells=[_name(row, comparison) for row in rows]),
        Column(title="n", is_number=True, cells=[_count(row, comparison.primary) for row in rows]),
        _metric_column(comparison, comparison.primary),
        _difference_column(comparison),
        *_robust_columns(comparison),
        *(_metric_column(comparison, name) for name in secondary),
        *(_counter_column(rows, name) for name in counters),
    ]
    table: dict[str, Sequence[Value]] = {comparison.compared: [row.label for row in rows]}
    table["n"] = [row.num_done for row in rows]
    for name in (comparison.primary, *secondary):
        table |= _numbers(rows, name)
    table |= {name: [row.metrics[name].mean for row in rows] for name in counters}
    return Listing(
        id="results",
        title="Results",
        caption=f"Mean ± standard deviation over seeds, at the last step. Ranked by {comparison.primary_title}, which "
        "was named before the runs; all other columns are secondary. p: paired t test, adjusted by Holm; coloured "
        "where it is below 0.05 with 5 seeds or more. IQM: interquartile mean. P(better): how often a run beats one of "
        "the baseline.",
        labels=[row.label for row in rows],
        columns=columns,
        table=table,
        notes=_notes(comparison),
    )


def control_table(comparison: Comparison) -> Listing | None:
    """Return the table of treatments and the controls that the study named; None if no pair has runs."""
    known = {row.label for row in comparison.rows}
    pairs = [pair for pair in comparison.controls if {pair.label, pair.control} <= known]
    if not pairs:
        return None
    primary, differences = comparison.primary, [pair.difference for pair in pairs]
    numbers = comparison.format(primary).differences
    labels, controls = [pair.label for pair in pairs], [pair.control for pair in pairs]
    adjusted = [one.adjusted_p_value for one in differences]
    return Listing(
        id="controls",
        title="Against the controls",
        caption=f"Difference in {comparison.primary_title} to the control that was named before the runs, which lacks "
        f"the one thing that the {comparison.compared} is about. p: paired t test, adjusted by Holm with those against "
        f"{comparison.baseline}; coloured where it is below 0.05 with 5 seeds or more.",
        labels=labels,
        columns=[
            Column(title=comparison.compared, is_number=False, cells=[Cell(text=name, sort=name) for name in labels]),
            Column(title="control", is_number=False, cells=[Cell(text=name, sort=name) for name in controls]),
            Column(
                title=f"difference to control{in_points(primary)}, 95 %",
                is_number=True,
                cells=[_difference(one, primary, numbers) for one in differences],
            ),
            _plain_column("p (Holm)", adjusted, p_value),
        ],
        table={
            comparison.compared: labels,
            "control": controls,
            "difference": [one.mean for one in differences],
            "low": [one.interval[0] if one.interval else None for one in differences],
            "high": [one.interval[1] if one.interval else None for one in differences],
            "pairs": [one.num_pairs for one in differences],
            "t p": [one.t_p_value for one in differences],
            "sign-flip p": [one.p_value for one in differences],
            "Holm p": adjusted,
        },
        notes=(),
    )


def _name(row: Row, comparison: Comparison) -> Cell:
    marks = ["baseline"] if row.label == comparison.baseline else []
    marks += [f"{number} {status}" for status in NOT_DONE if (number := row.count(status))]
    return Cell(text=row.label, sort=row.label, mark=", ".join(marks))


def _count(row: Row, primary: str) -> Cell:
    return Cell(text=f"{row.num_done}{'*' if is_indicative(row, primary) else ''}", sort=row.num_done)


def _metric_column(comparison: Comparison, name: str) -> Column:
    numbers, title = comparison.format(name), with_unit(title_of(name), comparison.column_unit(name))
    cells = [_metric(row.metrics[name], name, numbers) for row in comparison.rows]
    return Column(title=title, is_number=True, cells=cells)


def _metric(values: Metric, name: str, numbers: Format) -> Cell:
    spread = "" if values.std is None else f" ± {numbers.text(values.std)}"
    sort = None if values.mean is None else best_first(name, values.mean)
    return Cell(text=f"{numbers.text(values.mean)}{spread}", sort=sort)


def _difference_column(comparison: Comparison) -> Column:
    primary, numbers = comparison.primary, comparison.format(comparison.primary).differences
    return Column(
        title=f"difference to baseline{in_points(primary)}, 95 %",
        is_number=True,
        cells=[_difference(row.metrics[primary].difference, primary, numbers) for row in comparison.rows],
    )


def _difference(difference: PairedDifference | None, name: str, numbers: Format) -> Cell:
    if difference is None or difference.mean is None:
        return Cell(text="" if difference is None else MISSING)
    tone = ("better" if is_better(name, difference.mean) else "worse") if difference.is_coloured else ""
    text = numbers.text(difference.mean, sign="+")
    if difference.interval is not None:
        text += f" {interval_text(difference.interval, numbers)}"
    return Cell(text=text, sort=best_first(name, difference.mean), tone=tone)


def _robust_columns(comparison: Comparison) -> list[Column]:
    primary = comparison.primary
    numbers, metrics = comparison.format(primary), [row.metrics[primary] for row in comparison.rows]
    adjusted = [metric.difference.adjusted_p_value if metric.difference else None for metric in metrics]
    return [
        _plain_column("p (Holm)", adjusted, p_value),
        _plain_column("IQM", [metric.iqm for metric in metrics], numbers.text),
        _plain_column("P(better)", [metric.improvement for metric in metrics], ShareFormat().text),
    ]


def _plain_column(title: str, values: Sequence[float | None], text: Callable[[float | None], str]) -> Column:
    return Column(title=title, is_number=True, cells=[Cell(text=text(value), sort=value) for value in values])


def _counter_column(rows: Sequence[Row], name: str) -> Column:
    title, text = COUNTERS[name]
    return _plain_column(title, [row.metrics[name].mean for row in rows], text)


def _numbers(rows: Sequence[Row], name: str) -> dict[str, Sequence[Value]]:
    metrics = [row.metrics[name] for row in rows]
    differences = [metric.difference for metric in metrics]
    others: Mapping[str, Sequence[Value]] = {
        f"{name} std": [metric.std for metric in metrics],
        f"{name} difference": [d.mean if d else None for d in differences],
        f"{name} low": [d.interval[0] if d and d.interval else None for d in differences],
        f"{name} high": [d.interval[1] if d and d.interval else None for d in differences],
        f"{name} episode low": [d.episode_interval[0] if d and d.episode_interval else None for d in differences],
        f"{name} episode high": [d.episode_interval[1] if d and d.episode_interval else None for d in differences],
        f"{name} pairs": [d.num_pairs if d else None for d in differences],
        f"{name} t p": [d.t_p_value if d else None for d in differences],
        f"{name} sign-flip p": [d.p_value if d else None for d in differences],
        f"{name} Holm p": [d.adjusted_p_value if d else None for d in differences],
        f"{name} IQM": [metric.iqm for metric in metrics],
        f"{name} P(better)": [metric.improvement for metric in metrics],
    }
    known = {title: values for title, values in others.items() if any(value is not None for value in values)}
    return {name: [metric.mean for metric in metrics], **known}


def _notes(comparison: Comparison) -> list[str]:
    names = references(comparison.val_error)
    known = {title_of(name): value for name in names if (value := comparison.reference.get(name)) is not None}
    if not known:
        return []
    numbers = NumberFormat.of(known.values())
    return [
        f"{with_unit(comparison.val_error, comparison.unit(comparison.val_error))} of what needs no training: "
        + ", ".join(f"{name} {numbers.text(value)}" for name, value in known.items())
        + "."
    ]
