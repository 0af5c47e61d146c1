"""Report on a data set before training: size, balance, repetition, and the error of predictors that see no images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mobile_vla.data.dataset import OpenDataset
from mobile_vla.data.labels.grammars import task_of
from mobile_vla.data.labels.instruction_summary import instruction_lines
from mobile_vla.evaluation.action_scale import ActionScale
from mobile_vla.evaluation.action_shares import action_shares, binary_shares, moving_shares
from mobile_vla.evaluation.baselines import baseline_metrics
from mobile_vla.metric_text import SCALED_MEANING
from mobile_vla.metrics import ERROR, PREDICTORS, SCALED_ERROR, error_of, reference_name
from mobile_vla.schema import NUM_PHASES, Episode
from mobile_vla.text import in_lines, shortened

_SOLVED_SHARE = 0.05
"""A lookup table solves the task if its RMSE is below this share of the mean predictor's RMSE."""


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """Statistics of a data set, and the errors of the baseline predictors on val.

    ``windows_per_episode`` maps a number of windows to the number of train episodes that have it. ``phase_shares`` are
    shares of the train windows by phase, ``action_shares`` shares of the train frames by class of a base's velocities,
    ``moving_shares`` those in which each other action moves, ``binary_shares`` those of a binary action's values (see
    ``evaluation.action_shares``). ``instructions`` are lines to print. ``identical_share`` is the share of episodes
    whose actions another episode repeats exactly. ``baselines`` has the keys ``baseline/<name>/rmse[/dimension]`` and
    ``/nrmse``; ``error`` is the error that fits the units of the actions, ``val/rmse`` or ``val/nrmse``.
    """

    num_episodes: Mapping[str, int]
    num_frames: int
    num_windows: Mapping[str, int]
    windows_per_episode: Mapping[int, int]
    episodes_by_scenario: Mapping[str, int]
    episodes_by_task: Mapping[str, int]
    instructions: Sequence[str]
    phase_shares: Sequence[float]
    action_shares: Mapping[str, float]
    moving_shares: Mapping[str, float]
    binary_shares: Mapping[str, Mapping[str, float]]
    identical_share: float
    baselines: Mapping[str, float]
    error: str = ERROR

    def warnings(self) -> list[str]:
        """Return one warning for each question that no training on this data can answer."""
        found = []
        if max(self.windows_per_episode) == 1:
            found.append(
                "every train episode has exactly one window: random starts change nothing, and the position of a frame "
                "in the window is its time step, so a policy can act on the time alone"
            )
        mean, lookup = (self.baselines[reference_name(name, self.error)] for name in ("mean", "scenario_time_lookup"))
        word = "nRMSE" if self.error == SCALED_ERROR else "RMSE"
        if lookup < _SOLVED_SHARE * mean:
            found.append(
                f"a (scenario, time step) lookup table already solves this task: {word} {lookup:.4f}, predicting the "
                f"mean {mean:.4f}. A low {word} here proves nothing about vision"
            )
        if self.identical_share > 0.1:
            found.append(f"{self.identical_share:.0%} of the episodes repeat another episode's actions exactly")
        return found


def data_report_of(data: OpenDataset) -> DataReport:
    """Return the report on ``data``."""
    train = [data.episodes[name] for name in data.split.train]
    windows = data.windows["train"]
    per_episode = np.bincount(windows.episode, minlength=len(train))
    return DataReport(
        num_episodes={part: len(getattr(data.split, part)) for part in ("train", "val", "unseen")},
        num_frames=sum(e.num_frames for e in data.episodes.values()),
        num_windows={part: len(table) for part, table in data.windows.items()},
        windows_per_episode=dict(sorted(Counter(per_episode.tolist()).items())),
        episodes_by_scenario=dict(Counter(e.scenario for e in data.episodes.values()).most_common()),
        episodes_by_task=dict(Counter(task_of(e.fields) for e in data.episodes.values()).most_common()),
        instructions=instruction_lines(list(data.episodes.values())),
        phase_shares=(np.bincount(windows.phase, minlength=NUM_PHASES) / len(windows)).tolist(),
        action_shares=action_shares(train, data.spec),
        moving_shares=moving_shares(train, data.spec),
        binary_shares=binary_shares(train, data.spec),
        identical_share=identical_share(list(data.episodes.values())),
        baselines=baseline_metrics(
            train=train,
            windows=data.windows["val"],
            targets=data.readers["val"].current_targets(),
            scale=ActionScale.of(data.spec, [episode.actions for episode in train]),
        ),
        error=error_of(data.spec),
    )


def identical_share(episodes: Sequence[Episode]) -> float:
    """Return the share of episodes whose whole action sequence is also that of another episode."""
    counts = Counter(e.actions.tobytes() for e in episodes)
    return sum(count for count in counts.values() if count > 1) / len(episodes)


def print_data_report(report: DataReport, console: Console) -> None:
    """Print the report as one compact block."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    parts = [f"{part} {count}" for part, count in report.num_episodes.items() if count]
    grid.add_row("episodes", f"{sum(report.num_episodes.values())} ({', '.join(parts)}), {report.num_frames} frames")
    grid.add_row("windows", ", ".join(f"{part} {count}" for part, count in report.num_windows.items()))
    grid.add_row("windows/episode", _histogram(report.windows_per_episode))
    grid.add_row("scenarios", _shares_line(report.episodes_by_scenario, "{:.0f}"))
    if len(report.episodes_by_task) > 1:
        grid.add_row("tasks", _shares_line(report.episodes_by_task, "{:.0f}"))
    grid.add_row("instructions", Text("\n".join(report.instructions)))
    grid.add_row("phase", Text(_bars(report.phase_shares) + "  share of train windows by tenth of the episode"))
    if report.action_shares:
        grid.add_row("actions", _shares_line(report.action_shares, "{:.0%}"))
    for title, line in _signal_lines(report):
        grid.add_row(title, Text(line))
    grid.add_row("identical actions", f"{report.identical_share:.0%} of episodes")
    lookups = [f"{name} {report.baselines[reference_name(name, report.error)]:.4f}" for name in PREDICTORS]
    how = f"{report.error} baselines" if report.error == SCALED_ERROR else "val RMSE baselines"
    unit = f"  {SCALED_MEANING}" if report.error == SCALED_ERROR else ""
    grid.add_row(how, Text(", ".join(lookups) + unit))
    console.print(Group(Text("What the data can show", style="bold underline"), grid))


def _signal_lines(report: DataReport) -> list[tuple[str, str]]:
    """Return title and text of the lines on actions that are counted signal by signal."""
    moving = {name: share for name, share in report.moving_shares.items() if share > 0}
    still = [name for name in report.moving_shares if name not in moving]
    lines = [("actions that move", f"share of train frames: {_shares_line(moving, '{:.0%}')}")] if moving else []
    if still:
        lines.append(("never move", f"{len(still)} of {len(report.moving_shares)}: {shortened(still, limit=9)}"))
    for name, shares in report.binary_shares.items():
        lines.append(("binary action", f"{name}: {', '.join(f'{v} in {s:.0%}' for v, s in shares.items())}"))
    return lines


def print_warnings(warnings: Sequence[str], console: Console) -> None:
    """Print all warnings again in one block; nothing if there are none."""
    if warnings:
        console.print(Text("Warnings", style="bold yellow"))
        for warning in warnings:
            console.print(Text(in_lines(f"! {warning}", width=console.width), style="yellow"), soft_wrap=True)


def _histogram(windows_per_episode: Mapping[int, int], num_bins: int = 6) -> str:
    values = np.repeat(list(windows_per_episode), list(windows_per_episode.values()))
    if len(windows_per_episode) <= num_bins:
        return ", ".join(f"{n} in {count} episode(s)" for n, count in windows_per_episode.items())
    edges = np.unique(np.linspace(values.min(), values.max() + 1, num_bins + 1).astype(int))
    counts, _ = np.histogram(values, edges)
    ranges = [f"{low}-{high - 1}" for low, high in pairwise(edges)]
    return "  ".join(f"{label}: {count}" for label, count in zip(ranges, counts, strict=True))


def _shares_line(shares: Mapping[str, float], form: str, limit: int = 9) -> str:
    items = [f"{name} {form.format(value)}" for name, value in list(shares.items())[:limit]]
    more = len(shares) - limit
    return ", ".join(items) + (f", and {more} more" if more > 0 else "")


def _bars(shares: Sequence[float]) -> str:
    blocks = " ▁▂▃▄▅▆▇█"
    top = max(shares)
    return "".join(blocks[round(share / top * 8)] for share in shares)
