"""Print a rehearsal on the terminal: shares by scenario, phase and episode, and statistics of all draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mobile_vla.sampler_report.rehearsal import Rehearsal
from mobile_vla.sampler_report.shares import Shares, shares_by_episode, shares_by_phase, shares_by_scenario

COVERAGES = (0.5, 0.9, 0.99)
"""Shares of the windows for which the number of steps is reported."""

_MOST_GROUPS = 24
"""Largest number of lines in a section of the table."""


def print_rehearsal(rehearsal: Rehearsal, console: Console) -> None:
    """Print the table of shares, then one line for each property of the draws."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold")
    for name in ("windows", "natural", "target", "drawn", "/natural", *(["in loss"] if rehearsal.is_weighted else [])):
        table.add_column(name, justify="right", no_wrap=True)
    _add_shares(table, "by scenario", shares_by_scenario(rehearsal))
    _add_shares(table, "by % of the episode", shares_by_phase(rehearsal))
    _add_episodes(table, shares_by_episode(rehearsal))
    console.print(table)
    figures = Table.grid(padding=(0, 2))
    for name, value in _figures(rehearsal).items():
        figures.add_row(Text(name, style="bold"), Text(value))
    console.print(figures)


def _add_shares(table: Table, title: str, shares: Shares) -> None:
    """Add a row for each of the groups with most windows, in the order of ``shares``, and the number of the others."""
    table.add_row(Text(title, style="bold"))
    shown = np.sort(np.argsort(-shares.num_windows, kind="stable")[:_MOST_GROUPS])
    columns = [column[shown].tolist() for column in _columns(shares)]
    for row, cells in zip(shown.tolist(), zip(*columns, strict=True), strict=True):
        table.add_row(*_cells(table, shares.names[row], *cells, ratio=float(shares.drawn[row] / shares.natural[row])))
    if len(shown) < len(shares):
        table.add_row(Text(f"  and {len(shares) - len(shown)} smaller"))
    table.add_section()


def _add_episodes(table: Table, shares: Shares) -> None:
    """Add rows with the smallest, the median and the largest value of each column; the episodes may differ."""
    table.add_row(Text(f"by episode, of {len(shares):,}", style="bold"))
    for name, of in (("smallest", np.min), ("median", np.median), ("largest", np.max)):
        # No ratio: the values of a row belong to different episodes, so their quotient belongs to none.
        table.add_row(*_cells(table, name, *(float(of(column)) for column in _columns(shares)), ratio=None))


def _columns(shares: Shares) -> tuple[NDArray[np.int64] | NDArray[np.float64], ...]:
    return shares.num_windows, shares.natural, shares.target, shares.drawn, shares.in_loss


def _cells(
    table: Table,
    name: str,
    num_windows: float,
    natural: float,
    target: float,
    drawn: float,
    in_loss: float,
    *,
    ratio: float | None,
) -> list[Text]:
    """Return the cells of a row of ``table``; the last column ("in loss") may be missing."""
    shares = [Text(f"{100 * share:.2f} %") for share in (natural, target, drawn)]
    cells = [Text(f"  {name}"), Text(f"{num_windows:,.0f}"), *shares, _ratio(ratio), Text(f"{100 * in_loss:.2f} %")]
    return cells[: len(table.columns)]


def _ratio(ratio: float | None) -> Text:
    if ratio is None:
        return Text("")
    return Text(f"{ratio:.2f}", style="" if 0.8 < ratio < 1.25 else "cyan" if ratio > 1 else "magenta")


def _figures(rehearsal: Rehearsal) -> dict[str, str]:
    """Return one line for each property of the draws; lines that would have no information here are left out."""
    metric = {name.removeprefix("sampler/"): value for name, value in rehearsal.metrics.items()}
    visits, num_windows = rehearsal.visits, len(rehearsal.windows)
    effective = metric["effective_sample_size"]
    found = {
        "drawn once": _steps(rehearsal),
        "never drawn": (
            f"{(visits == 0).sum():,} windows ({_percent(metric['never_drawn'])}), "
            f"{(shares_by_episode(rehearsal).drawn == 0).sum():,} episodes"
        ),
        "draws per window": f"mean {visits.mean():,.1f}, median {np.median(visits):,.0f}, most {visits.max():,}",
        "effective": f"{effective * num_windows:,.0f} windows ({_percent(effective)})",
        "repeats": f"{_percent(metric['duplicates'])} of a batch, {_percent(metric['repeats_in_pass'])} of a pass",
        "in a batch": f"{metric['episodes_per_batch']:.1f} episodes, {metric['scenarios_per_batch']:.1f} scenarios",
        "evenness": (
            f"entropy of episodes {_percent(metric['episode_entropy_batch'])} of the largest possible in a batch, "
            f"{_percent(metric['episode_entropy'])} over all draws"
        ),
        "scenarios": (
            f"{_percent(metric['scenario_divergence/target'])} of the draws off target, "
            f"{_percent(metric['scenario_divergence/natural'])} off natural"
        ),
    }
    if "chi_squared/phase" in metric:
        found["phases"] = f"chi-squared {metric['chi_squared/phase']:.2f} (1: independent uniform draws, less: passes)"
    found["padded"] = f"{_percent(metric['padded'])} of the draws lack frames or targets"
    if rehearsal.is_weighted or metric["weight_max"] != 1:
        effective_draws = _percent(metric.get("weight_effective", 0.0))
        found["loss weights"] = f"largest {metric['weight_max']:.3g}, effective sample {effective_draws} of the draws"
    if "score_age" in metric:
        found["drawn again"] = f"after {metric['score_age']:,.0f} steps on average"
    if "score_rank_correlation" in metric:
        found["by loss"] = f"rank correlation of draws and loss {metric['score_rank_correlation']:+.2f}"
    if rehearsal.windows_scored:
        per_draw = rehearsal.windows_scored / rehearsal.num_draws
        found["measured"] = f"{rehearsal.windows_scored:,} windows before the draws, {per_draw:,.1f} for each drawn"
    return found


def _steps(rehearsal: Rehearsal) -> str:
    steps = {share: rehearsal.steps_until(share) for share in COVERAGES}
    return ", ".join(f"{100 * s:.0f} % {f'after {n:,} steps' if n else 'never'}" for s, n in steps.items())


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
