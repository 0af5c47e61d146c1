"""Plot a rehearsal: shares by scenario, phase and episode, coverage, draws per window, and a map of all draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mobile_vla.sampler_report.rehearsal import Rehearsal
from mobile_vla.sampler_report.shares import Shares, shares_by_episode, shares_by_phase, shares_by_scenario
from mobile_vla.sampler_report.tables import COVERAGES

_DRAWN, _TARGET, _IN_LOSS, _NATURAL = "#0072b2", "#d55e00", "#009e73", "#cfccc2"
_INK, _MUTED = "#1c1c1a", "#6b6a65"

_PERCENT = FuncFormatter(lambda share, _: f"{100 * share:g} %")

_MOST_SCENARIOS = 40
"""Largest number of bars that are still readable; of more scenarios, those with most windows are shown."""


def draw_picture(rehearsal: Rehearsal, path: Path, *, title: str, subtitle: str) -> None:
    """Write the picture of ``rehearsal`` as a PNG."""
    scenarios = shares_by_scenario(rehearsal)
    num_lines = 1 + subtitle.count("\n")
    upper = 1.2 + 0.24 * max(min(len(scenarios), _MOST_SCENARIOS), 8)
    # ``Figure`` instead of pyplot: no global state remains, and no display is needed.
    figure = Figure(figsize=(15, upper + 5.2 + 0.2 * num_lines), dpi=110, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1, wspace=0.03, hspace=0.03)
    axes = figure.subplots(2, 3, height_ratios=(upper, 4.0))
    is_weighted = rehearsal.is_weighted
    _plot_scenarios(axes[0, 0], scenarios, is_weighted=is_weighted)
    _plot_phases(axes[0, 1], shares_by_phase(rehearsal), is_weighted=is_weighted)
    _plot_episodes(axes[0, 2], shares_by_episode(rehearsal), is_weighted=is_weighted)
    _plot_coverage(axes[1, 0], rehearsal)
    _plot_visits(axes[1, 1], rehearsal)
    _plot_map(axes[1, 2], rehearsal)
    for ax in axes.flat:
        _tidy(ax)
    # Blank lines in the title reserve space for the subtitle below it. ``parse_math=False``, because a "$" in an
    # override must not start a formula.
    blank = "\n" * num_lines
    figure.suptitle(f"{title}{blank}", x=0.012, ha="left", fontsize=13, fontweight="bold", color=_INK, parse_math=False)
    below_title = 1 - 0.4 / figure.get_figheight()
    figure.text(0.012, below_title, subtitle, va="top", color=_MUTED, fontsize=10, parse_math=False)
    keys = [Patch(color=_DRAWN), Line2D([], [], color=_TARGET, lw=2.5), Patch(color=_NATURAL)]
    names = ["drawn", "target: the sampler's probabilities", "natural: all windows equally likely"]
    if is_weighted:
        keys.append(Line2D([], [], color=_IN_LOSS, marker="D", ls=""))
        names.append("in the loss: draws times weights")
    figure.legend(keys, names, loc="outside lower center", ncols=len(keys), frameon=False, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _plot_scenarios(ax: Axes, shares: Shares, *, is_weighted: bool) -> None:
    order = np.argsort(-shares.num_windows, kind="stable")[:_MOST_SCENARIOS]
    y = np.arange(len(order))
    ax.barh(y, shares.natural[order], height=0.82, color=_NATURAL)
    ax.barh(y, shares.drawn[order], height=0.44, color=_DRAWN)
    ax.vlines(shares.target[order], y - 0.41, y + 0.41, color=_TARGET, lw=2.5)
    if is_weighted:
        ax.plot(shares.in_loss[order], y, "D", color=_IN_LOSS, markeredgecolor="white")
    ax.set_yticks(y, [shares.names[i] for i in order])
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter(_PERCENT)
    some = f", the {len(order)} largest of {len(shares)}" if len(order) < len(shares) else ""
    ax.set_title(f"Shares by scenario{some}")


def _plot_phases(ax: Axes, shares: Shares, *, is_weighted: bool) -> None:
    x = np.arange(len(shares))
    ax.bar(x, shares.natural, width=0.82, color=_NATURAL)
    ax.bar(x, shares.drawn, width=0.44, color=_DRAWN)
    ax.hlines(shares.target, x - 0.41, x + 0.41, color=_TARGET, lw=2.5)
    if is_weighted:
        ax.plot(x, shares.in_loss, "D", color=_IN_LOSS, markeredgecolor="white")
    ax.set_xticks(x, [name.removesuffix(" %") for name in shares.names], rotation=45, ha="right")
    ax.yaxis.set_major_formatter(_PERCENT)
    ax.set_title("Shares by phase")
    ax.set_xlabel("progress of the current frame, % of the episode")


def _plot_episodes(ax: Axes, shares: Shares, *, is_weighted: bool) -> None:
    x = np.arange(1, len(shares) + 1)
    ax.fill_between(x, np.sort(shares.natural)[::-1], step="mid", color=_NATURAL)
    ax.plot(x, np.sort(shares.target)[::-1], color=_TARGET, lw=2, drawstyle="steps-mid")
    ax.plot(x, np.sort(shares.drawn)[::-1], color=_DRAWN, lw=1.5, drawstyle="steps-mid")
    if is_weighted:
        ax.plot(x, np.sort(shares.in_loss)[::-1], color=_IN_LOSS, lw=1.5, ls=":")
    ax.set_ylim(bottom=0)
    ax.margins(x=0.01)
    ax.yaxis.set_major_formatter(_PERCENT)
    ax.set_title(f"Shares by episode: {(shares.drawn == 0).sum():,} of {len(shares):,} never drawn")
    ax.set_xlabel("rank, each curve sorted by itself: largest first")


def _plot_coverage(ax: Axes, rehearsal: Rehearsal) -> None:
    steps = np.arange(rehearsal.num_steps + 1)
    independent = 1 - (1 - 1 / len(rehearsal.windows)) ** (steps * rehearsal.batch_size)
    ax.plot(steps, independent, color=_MUTED, lw=1, ls=(0, (4, 3)), label="independent uniform draws")
    ax.plot(steps, rehearsal.coverage_by_step(), color=_DRAWN, lw=2, label="this sampler")
    for share in COVERAGES:
        step = rehearsal.steps_until(share)
        if step is not None:
            ax.plot(step, share, "o", color=_DRAWN, ms=5)
            ax.annotate(
                f"{100 * share:.0f} %: {step:,}", (step, share), (7, -11), textcoords="offset points", color=_INK
            )
    ax.set_ylim(0, 1.03)
    ax.set_xlim(0, rehearsal.num_steps)
    ax.yaxis.set_major_formatter(_PERCENT)
    ax.legend(loc="lower right", frameon=False)
    ax.set_title(f"Windows drawn at least once: {100 * rehearsal.coverage_by_step()[-1]:.1f} %")
    ax.set_xlabel("steps")


def _plot_visits(ax: Axes, rehearsal: Rehearsal) -> None:
    visits = rehearsal.visits
    mean = visits.mean()
    # The bin width is a whole number: otherwise some bins would cover more integers than others and look too high.
    width = max(int(np.ceil((visits.max() + 1) / 60)), 1)
    edges = np.arange(0, visits.max() + 1 + width, width) - 0.5
    ax.hist(visits, edges.tolist(), color=_DRAWN, rwidth=0.9)
    ax.axvline(mean, color=_MUTED, lw=1, ls=(0, (4, 3)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    ax.set_title(f"Draws per window: mean {mean:.1f}, most {visits.max():,}")
    ax.set_xlabel("draws of a window")
    ax.set_ylabel("windows")


def _plot_map(ax: Axes, rehearsal: Rehearsal) -> None:
    draw_map, num_windows = rehearsal.draw_map, len(rehearsal.windows)
    # The colour scale ends at the 99 % quantile, so that a few very frequent cells do not darken all others.
    image = ax.imshow(
        draw_map / draw_map.mean(),
        aspect="auto",
        cmap="viridis",
        vmin=0,
        vmax=max(2.0, float(np.quantile(draw_map, 0.99) / draw_map.mean())),
        extent=(0, rehearsal.num_steps, num_windows, 0),
        interpolation="nearest",
    )
    ax.set_title("What was drawn when")
    ax.set_xlabel("steps")
    ax.set_ylabel("window, sorted by episode")
    assert ax.figure is not None
    ax.figure.colorbar(image, ax=ax, label="draws relative to the mean", fraction=0.05, pad=0.02)


def _tidy(ax: Axes) -> None:
    ax.tick_params(colors=_MUTED, labelsize=9, length=3)
    ax.title.set(fontsize=11, fontweight="bold", color=_INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(_NATURAL)
