"""Figures of values with their uncertainty: paired differences to the baseline, and success by suite."""

from __future__ import annotations

from collections.abc import Iterator

from mobile_vla.compare.data.closed_loop import success_key, suite_of
from mobile_vla.compare.data.comparison import Comparison, Row
from mobile_vla.compare.page.blocks import Choice, Figure, Value, tidy
from mobile_vla.metric_text import is_share
from mobile_vla.metrics import is_better, shown, title_of


def paired_differences(comparison: Comparison) -> Figure:
    """Return the figure of each treatment's difference to the baseline: the mean, its 95 % interval and all seeds."""
    names = [
        name
        for name in dict.fromkeys(
            (
                comparison.primary,
                *map(success_key, comparison.suites),
                *shown("intervals", error=comparison.val_error),
            )
        )
        if comparison.rows and name in comparison.rows[0].metrics
    ]
    rows = [line for name in names for row in comparison.rows for line in _differences(comparison, row, name)]
    metrics = {line[0] for line in rows}
    of_episodes = (
        " The pale bar is the 95 % interval over val episodes for these trained policies."
        if any(line[-1] is not None for line in rows)
        else ""
    )
    return Figure(
        id="differences",
        title="Differences to the baseline",
        caption=f"Paired by seed with {comparison.baseline}: the mean with its 95 % t interval, and one dot a seed; "
        f"filled if the difference in {comparison.primary_title} is sure.{of_episodes} A bar that reaches the edge "
        "goes on outside the plot; a double click shows all of it.",
        kind="intervals",
        table=tidy(["metric", "sampler", "seed", "value", "low", "high", "sure", "episode_low", "episode_high"], rows),
        options={
            "zero": True,
            "metrics": {name: _axis(comparison, name) for name in names},
        },
        switches={"metric": [Choice(value=name, label=title_of(name)) for name in names if name in metrics]},
        notes=(),
        absent=f"No sampler shares a finished seed with the baseline, {comparison.baseline}.",
    )


def success_by_suite(comparison: Comparison) -> Figure:
    """Return the figure of the success rates of all treatments and seeds; a switch selects the suite."""
    rows: list[list[Value]] = []
    for suite in comparison.suites:
        for row in comparison.rows:
            metric = row.metrics[success_key(suite)]
            rows += [[suite, row.label, seed, value, None, None] for seed, value in metric.values.items()]
            if metric.mean is not None:
                spread = metric.std
                low, high = (None, None) if spread is None else (metric.mean - spread, metric.mean + spread)
                rows.append([suite, row.label, None, metric.mean, low, high])
    return Figure(
        id="success",
        title="Success by suite",
        caption="Share of closed-loop drives that reached the goal: the mean over seeds ± one standard deviation, and "
        "one dot a seed.",
        kind="intervals",
        table=tidy(["suite", "sampler", "seed", "value", "low", "high"], rows),
        options={
            "zero": False,
            "metrics": {suite: {"unit": "%", "scale": 100, "better": "more"} for suite in comparison.suites},
        },
        switches={"suite": [Choice(value=suite, label=suite) for suite in comparison.suites]},
        notes=tuple(comparison.different_states.values()),
        absent="No finished run drove in the closed loop (closed_loop=none, or data without a simulator).",
    )


def _differences(comparison: Comparison, row: Row, name: str) -> Iterator[list[Value]]:
    base = comparison.baseline_row
    difference = row.metrics[name].difference
    if base is None or difference is None or difference.mean is None:
        return
    # No single seeds where initial states differ between runs: only some seeds form a valid pair there.
    suite = suite_of(name)
    if suite is None or suite not in comparison.different_states:
        reference = base.metrics[name].values
        for seed, value in row.metrics[name].values.items():
            if seed in reference:
                yield [name, row.label, seed, value - reference[seed], *[None] * 5]
    interval, episodes = (ends or (None, None) for ends in (difference.interval, difference.episode_interval))
    yield [name, row.label, None, difference.mean, *interval, int(difference.is_sure), *episodes]


def _axis(comparison: Comparison, name: str) -> dict[str, object]:
    return {
        "unit": comparison.unit(name),
        "scale": 100 if is_share(name) else 1,
        "better": "more" if is_better(name, 1.0) else "less",
    }
