"""State what each metric is, its unit, which way is better, whether it may decide a study, and where it is shown.

Everything that names, formats, ranks or shows a metric asks here. To add one, add an entry and the code that computes
it. Metrics are shown in the order of ``VOCABULARY``; where there is no room, the last ones are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

Direction = Literal["lower", "higher"]
"""Which values are better."""

Unit = Literal["action", "share", "m", "m/s", "s", "1/s", "GiB"]
"""``action``: that of the actions, where all have one; ``share``: 0 to 1, shown in percent where it decides."""

Place = Literal["bar", "end", "table", "intervals", "curves", "draws", "dashboard", "dashboard_draws", "changes"]
"""Where a metric is shown by default.

Of a run: ``bar``, its progress bar; ``end``, its last line. Of a comparison: ``table``, on terminal and page;
``intervals``, ``curves`` (of learning) and ``draws`` (of what was drawn), on the page; ``dashboard``, the curves of a
dashboard of W&B, ``dashboard_draws``, its axes of what was drawn; ``changes``, the table of first and last values.
"""


Kind = Literal["compared", "reference", "recorded"]
"""``compared`` between treatments; ``reference``, of a predictor without training; ``recorded`` in a summary only."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Describe all metrics whose names match ``pattern``.

    In ``pattern``, ``{field}`` matches a part of the name without a slash, ``{field*}`` any rest of it. ``meaning`` is
    a noun phrase. Without a ``direction`` no value is better than another, and there is no P(better). With
    ``may_decide`` it may be the primary metric of a study: every run measures it, and on the same windows or drives.
    ``title`` is what a person reads, with the fields of ``pattern``; None means the name. A metric that ``is_detail``
    stands in ``comparison.json`` but not in the CSV, whose columns it would treble.
    """

    pattern: str
    meaning: str
    unit: Unit | None = None
    direction: Direction | None = None
    may_decide: bool = False
    title: str | None = None
    shown: tuple[Place, ...] = ()
    kind: Kind = "compared"
    is_detail: bool = False


ERROR = "val/rmse"
"""What all is held against where nothing else is named, and what has parts by scenario, phase and horizon."""

PROBE = "probe/rmse"
LOSS = "train/loss"
INNER = "inner/rmse"
LOOKUP = "baseline/scenario_time_lookup/rmse"
"""The reference predictor that sees the scenario and the time step and no image."""

PREDICTORS = {
    "mean": "mean action",
    "hold_last": "hold-last action",
    "time_lookup": "time-step lookup",
    "scenario_time_lookup": "(scenario, time step) lookup",
}
"""What needs no training, from the simplest on: the name of each, and what a person reads."""

REFERENCES = tuple(f"baseline/{name}/rmse" for name in PREDICTORS)

SHARE, TARGET, PHASE = "sampler/share/{scenario}", "sampler/target/{scenario}", "sampler/phase_{phase}"

COSTS = ("samples_seen", "windows_scored", "wall_s")
"""What a run spent: windows trained on, windows of a sampler's extra forward passes, seconds."""


def _error(pattern: str, meaning: str, *, shown: tuple[Place, ...] = ()) -> Entry:
    """Return the entry of an RMSE or a loss on windows that are the same for every sampler."""
    unit = "action" if "rmse" in pattern else None
    return Entry(pattern=pattern, meaning=meaning, unit=unit, direction="lower", may_decide=True, shown=shown)


def _drawn(name: str, meaning: str, *, title: str | None = None, shown: tuple[Place, ...] = ()) -> Entry:
    """Return the entry of what a sampler drew: neither more nor less of it is better."""
    return Entry(pattern=f"sampler/{name}", meaning=meaning, title=title, shown=shown)


def _of_suite(
    name: str,
    meaning: str,
    *,
    unit: Unit | None = None,
    direction: Direction | None = None,
    may_decide: bool = False,
    title: str | None = None,
    is_detail: bool = False,
) -> Entry:
    """Return the entry of what the drives in one suite of the closed loop came to."""
    return Entry(
        pattern=f"closed_loop/{{suite}}/{name}",
        meaning=meaning,
        unit=unit,
        direction=direction,
        may_decide=may_decide,
        title=title,
        is_detail=is_detail,
    )


_PARTS = "a part of its targets, by action, horizon, phase, scenario, task or kind of frame"

VOCABULARY: tuple[Entry, ...] = (
    # On windows that are the same for every sampler.
    _error(
        ERROR,
        "the root mean squared error of the predicted actions on the val windows",
        shown=("bar", "end", "table", "intervals", "curves", "dashboard", "changes"),
    ),
    _error("val/rmse/scenario_mean", "the mean over scenarios of their val/rmse", shown=("intervals",)),
    _error("val/rmse/critical", "val/rmse of the frames at a change of action", shown=("intervals",)),
    _error("val/rmse/{part*}", f"val/rmse of {_PARTS}"),
    _error(PROBE, "the RMSE on one sample of the train windows", shown=("table", "intervals", "curves")),
    _error("probe/rmse/{part*}", f"probe/rmse of {_PARTS}"),
    _error(
        "unseen/rmse",
        "the RMSE on the episodes that dataset.unseen holds out of training",
        shown=("bar", "end", "table", "intervals", "curves", "dashboard"),
    ),
    _error("unseen/rmse/{part*}", f"unseen/rmse of {_PARTS}"),
    _error(INNER, "the RMSE on the train episodes that dataset.inner_fraction holds out for tuning"),
    _error("inner/rmse/{part*}", f"inner/rmse of {_PARTS}"),
    _error(
        "val/loss",
        "what training minimises, on the val windows",
        shown=("end", "table", "intervals", "curves", "dashboard", "changes"),
    ),
    _error("probe/loss", "the loss on one sample of the train windows"),
    _error("unseen/loss", "the loss on the episodes that dataset.unseen holds out of training"),
    _error("inner/loss", "the loss on the train episodes that dataset.inner_fraction holds out"),
    # Of training: every sampler draws other windows, so that neither of two losses is the better one.
    Entry(
        pattern=LOSS,
        meaning="the mean loss of the windows drawn since the evaluation before",
        shown=("bar", "end", "table", "curves", "dashboard", "changes"),
    ),
    Entry(
        pattern="train/rmse",
        meaning="the RMSE of the windows drawn since the evaluation before",
        unit="action",
        shown=("curves", "changes"),
    ),
    Entry(pattern="train/loss/{part*}", meaning="train/loss of the windows of a scenario"),
    Entry(pattern="train/learning_rate", meaning="the learning rate of the last step"),
    Entry(pattern="train/grad_norm", meaning="the norm of the last step's gradient, before it is clipped"),
    Entry(pattern="train/skipped_steps", meaning="how many steps changed no weight, as their gradient overflowed"),
    Entry(
        pattern="train/windows_per_s",
        meaning="how many windows a second were trained on, evaluations aside",
        unit="1/s",
        direction="higher",
    ),
    # Of the run's best evaluation: its step is chosen by the val episodes themselves, so that it decides nothing.
    Entry(
        pattern="best/val/rmse",
        meaning="the lowest val/rmse of all evaluations",
        unit="action",
        direction="lower",
        shown=("end",),
    ),
    # Of what was drawn. See sampling.diagnostics.
    _drawn(
        "coverage",
        "the share of the train windows drawn at least once",
        title="coverage",
        shown=("draws", "dashboard_draws"),
    ),
    _drawn(
        "effective_sample_size",
        "(Σv)² / Σv² of the visits v, as a share of the train windows",
        title="effective sample size",
        shown=("draws", "dashboard_draws"),
    ),
    _drawn(
        "duplicates",
        "the share of a batch that repeats one of its windows",
        title="duplicates in a batch",
        shown=("draws", "dashboard_draws"),
    ),
    _drawn("scenarios_per_batch", "the number of scenarios in a batch", title="scenarios a batch", shown=("draws",)),
    _drawn("repeats_max", "the most visits of one window", title="most repeats", shown=("draws",)),
    Entry(pattern=SHARE, meaning="the share of a scenario in all draws"),
    Entry(pattern=TARGET, meaning="the share of a scenario that the sampler aims at"),
    Entry(pattern=PHASE, meaning="the share of draws by the phase of their current frame, in tenths of an episode"),
    _drawn("{figure*}", "a figure of what was drawn"),
    # Of drives, by suite. Times and paths are means over the drives that succeeded, and there may be none.
    _of_suite(
        "success_rate",
        "the share of drives that reached the goal",
        unit="share",
        direction="higher",
        may_decide=True,
        title="success in {suite}",
    ),
    _of_suite(
        "success_rate/scenario_mean",
        "the mean over scenarios of their success rates",
        unit="share",
        direction="higher",
        may_decide=True,
    ),
    _of_suite(
        "success_rate/{part*}",
        "the share of drives that reached the goal by scenario, placement, distance or task",
        unit="share",
        direction="higher",
        is_detail=True,
    ),
    _of_suite(
        "success_low", "the lower end of the success rate's Wilson 95 % interval over drives", direction="higher"
    ),
    _of_suite("success_high", "the upper end of that interval", direction="higher"),
    _of_suite(
        "final_error_m", "the mean distance to the goal at the end", unit="m", direction="lower", may_decide=True
    ),
    _of_suite("time_to_goal_s", "the mean time to the goal", unit="s", direction="lower"),
    _of_suite("path_ratio", "the mean way driven to the goal, as a multiple of the expert's", direction="lower"),
    _of_suite("command_change_m_s", "the mean change of the command from step to step", unit="m/s", direction="lower"),
    _of_suite("episodes", "the number of drives"),
    _of_suite("failure/{kind}", "the share of drives that failed in a way", direction="lower", is_detail=True),
    _of_suite("{outcome}_rate", "the share of drives that ended in another way", direction="lower"),
    # What a run spent.
    Entry(pattern="samples_seen", meaning="the number of windows trained on"),
    Entry(
        pattern="windows_scored",
        meaning="the number of windows that the sampler asked about before it drew",
        direction="lower",
    ),
    Entry(pattern="wall_s", meaning="the time that training took", unit="s", direction="lower"),
    Entry(
        pattern="data_wait_s", meaning="the part of it that was spent on waiting for data", unit="s", direction="lower"
    ),
    Entry(
        pattern="memory/peak_gib",
        meaning="the most memory taken at once",
        unit="GiB",
        direction="lower",
        kind="recorded",
    ),
    # Of the trained policy, with something taken from it. See evaluation.shortcuts.
    Entry(pattern="shortcut/{probe}/rmse", meaning="val/rmse under a probe", unit="action", kind="recorded"),
    Entry(pattern="shortcut/{probe}/rmse_change", meaning="what a probe adds to it", unit="action", kind="recorded"),
    Entry(pattern="shortcut/{figure*}", meaning="what the probes show", kind="recorded"),
    # Of predictors that are not trained, on the val windows.
    *(
        Entry(
            pattern=f"baseline/{name}/rmse",
            meaning=f"val/rmse of the {title}",
            unit="action",
            title=title,
            kind="reference",
        )
        for name, title in PREDICTORS.items()
    ),
    Entry(
        pattern="baseline/{predictor}/rmse/{part*}",
        meaning=f"the RMSE of a predictor that is not trained, of {_PARTS}",
        unit="action",
        kind="reference",
    ),
    # Of a class or a version that this one does not know: it is compared, and neither value is the better one.
    *(
        Entry(pattern=f"{split}/{{figure*}}", meaning="a figure that no other entry describes")
        for split in ("train", "val", "unseen", "inner", "probe", "best", "closed_loop")
    ),
)

_UNLISTED = Entry(pattern="{name*}", meaning="no metric of this vocabulary", kind="recorded")


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    """Return what the names of an entry's ``pattern`` match, its fields as named groups."""
    text = re.sub(r"\\{(\w+)\\\*\\}", r"(?P<\1>.+)", re.escape(pattern))
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", text))


@cache
def entry_of(name: str) -> Entry:
    """Return the entry that describes the metric ``name``; one that says nothing of it where none does."""
    return next((entry for entry in VOCABULARY if _regex(entry.pattern).fullmatch(name)), _UNLISTED)


def title_of(name: str) -> str:
    """Return what a person reads of the metric ``name``: ``success in looks``, or the name itself."""
    entry = entry_of(name)
    match = _regex(entry.pattern).fullmatch(name)
    return name if entry.title is None or match is None else entry.title.format(**match.groupdict())


def is_metric(name: str) -> bool:
    """Return whether ``name`` is a figure of what a run did or reached, and not a fact of what it was given."""
    return entry_of(name).kind == "compared"


def deciding_in(suite: str) -> list[str]:
    """Return the names of the metrics of one suite of the closed loop that a study may be decided by."""
    patterns = [entry.pattern for entry in VOCABULARY if entry.may_decide]
    return [pattern.format(suite=suite) for pattern in patterns if pattern.startswith("closed_loop/{suite}/")]


def is_reference(name: str) -> bool:
    """Return whether ``name`` is a figure of a predictor that is not trained."""
    return entry_of(name).kind == "reference"


def shown(place: Place) -> tuple[str, ...]:
    """Return the names of the metrics that are shown unasked in ``place``, in order."""
    return tuple(entry.pattern for entry in VOCABULARY if place in entry.shown)


def parts_of(names: Iterable[str], pattern: str) -> dict[str, str]:
    """Return those of ``names`` that match ``pattern``, an entry's with one field, by what stands in the field."""
    return {match[1]: name for name in names if (match := _regex(pattern).fullmatch(name))}


def is_better(name: str, difference: float) -> bool:
    """Return whether a value ``difference`` above another one is the better of the two; an equal one is not."""
    return {"lower": difference < 0, "higher": difference > 0, None: False}[entry_of(name).direction]


def best_first(name: str, value: float | None) -> float:
    """Return what sorts the best ``value`` first and a missing one last; without a direction the lowest is first."""
    if value is None:
        return math.inf
    return -value if entry_of(name).direction == "higher" else value
