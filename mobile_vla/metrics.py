"""Define every metric: its meaning, unit and better direction, whether it may decide a study, and where it is shown.

All code that names, formats, ranks or shows a metric uses this module. To add a metric, add an entry here and the code
that computes it. Metrics are shown in the order of ``VOCABULARY``; where there is no room, the last ones are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from mobile_vla.spec import Spec

Direction = Literal["lower", "higher"]
"""Which values are better: lower or higher ones."""

Unit = Literal["action", "spread", "share", "m", "m/s", "s", "1/s", "GiB"]
"""``action``: the unit of the actions, if they all have the same one; ``spread``: the standard deviation of each action
in train, so that actions of different units count alike; ``share``: 0 to 1, shown in percent.
"""

Place = Literal["bar", "end", "table", "intervals", "curves", "draws", "dashboard", "dashboard_draws", "changes"]
"""Where a metric is shown by default.

For a run: ``bar`` is its progress bar, ``end`` its last line. For a comparison: ``table`` is the table on the terminal
and on the HTML page. ``intervals``, ``curves`` (learning curves) and ``draws`` (which windows were drawn) are plots on
the page. ``dashboard`` is the curves of the W&B dashboard, ``dashboard_draws`` its axes for the drawn windows.
``changes`` is the table of first and last values.
"""


Kind = Literal["compared", "reference", "recorded"]
"""``compared`` between treatments; ``reference``: of a predictor that is not trained; ``recorded``: only in summaries.
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The description of all metrics whose names match ``pattern``.

    In ``pattern``, ``{field}`` matches one part of the name (no slash) and ``{field*}`` matches the rest of the name.
    ``meaning`` is a noun phrase. Without a ``direction`` no value is better than another, and there is no P(better).
    A metric with ``may_decide`` may be the primary metric of a study, because every run measures it on the same windows
    or drives. ``title`` is the text shown to users, with the fields of ``pattern``; None means the metric's name. A
    metric with ``is_detail`` is written to ``comparison.json`` but not to the CSV, which would get three times as many
    columns.
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
"""The error that decides where all actions have one unit. It is also measured by scenario, phase and horizon."""

SCALED_ERROR = "val/nrmse"
"""The error that decides where the actions have different units, or unknown ones: a sum of squares in rad and in m/s
has no meaning, and the signal of the largest numbers would decide alone.
"""

AUTO = "auto"
"""The default of ``study.primary``: the error that ``error_of`` gives for the data."""

LOSS = "train/loss"

PREDICTORS = {
    "mean": "mean action",
    "hold_last": "hold-last action",
    "time_lookup": "time-step lookup",
    "scenario_time_lookup": "(scenario, time step) lookup",
}
"""The reference predictors, which need no training, simplest first: the name and the title of each."""


def error_of(spec: Spec | None, *, primary: str = AUTO) -> str:
    """Return the error on val that decides for runs on data of ``spec``: ERROR or SCALED_ERROR.

    It selects the best checkpoint and is compared with the reference predictors. ``primary`` is ``study.primary``: one
    of the two errors is taken as it is. ERROR is for a single signal, and for several with one known unit of which none
    is binary: a closed gripper is not a share of anything, though its unit may have the same name.
    """
    if primary in (ERROR, SCALED_ERROR):
        return primary
    if spec is None or len(spec.actions) == 1:
        return ERROR
    is_mixed = spec.common_unit is None or any(signal.kind == "binary" for signal in spec.actions)
    return SCALED_ERROR if is_mixed else ERROR


def part_of(name: str, split: str) -> str:
    """Return the metric that is ``name``, a metric on val, on another ``split``: ``probe/nrmse`` of ``val/nrmse``."""
    return f"{split}/{name.removeprefix('val/')}"


def reference_name(predictor: str, error: str) -> str:
    """Return the metric with the ``error`` (ERROR or SCALED_ERROR) of a reference predictor on val."""
    return f"baseline/{predictor}/{error.removeprefix('val/')}"


def references(error: str) -> tuple[str, ...]:
    """Return the metrics with the ``error`` of all reference predictors on val, the simplest predictor first."""
    return tuple(reference_name(name, error) for name in PREDICTORS)


def unbeaten(values: Mapping[str, float], *, error: str, known: Mapping[str, float]) -> dict[str, list[str]]:
    """Return for each reference predictor in ``known`` (metrics by name) which of ``values`` are no better, by label.

    ``values`` are measurements of ``error``. A predictor that all beat is left out.
    """
    found = {
        name: [label for label, value in values.items() if not value < known[name]]
        for name in references(error)
        if name in known
    }
    return {name: labels for name, labels in found.items() if labels}


SHARE, TARGET, PHASE = "sampler/share/{scenario}", "sampler/target/{scenario}", "sampler/phase_{phase}"

COSTS = ("samples_seen", "windows_scored", "wall_s")
"""The costs of a run: windows trained on, windows in the sampler's extra forward passes, seconds."""


def _error(pattern: str, meaning: str, *, shown: tuple[Place, ...] = ()) -> Entry:
    """Return the entry of an error or a loss on windows that are the same for every sampler."""
    units: dict[str, Unit] = {"rmse": "action", "nrmse": "spread"}
    unit = units.get(pattern.split("/")[1])
    return Entry(pattern=pattern, meaning=meaning, unit=unit, direction="lower", may_decide=True, shown=shown)


def _drawn(name: str, meaning: str, *, title: str | None = None, shown: tuple[Place, ...] = ()) -> Entry:
    """Return the entry of a statistic of the drawn windows: neither a higher nor a lower value is better."""
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
    """Return the entry of a result of the drives in one closed-loop suite."""
    return Entry(
        pattern=f"closed_loop/{{suite}}/{name}",
        meaning=meaning,
        unit=unit,
        direction=direction,
        may_decide=may_decide,
        title=title,
        is_detail=is_detail,
    )


_PARTS = "a part of its targets, by action, group of actions, horizon, phase, scenario, task or kind of frame"


def _scaled_errors() -> Iterator[Entry]:
    """Yield the entries of the errors in units of each action's spread, shown where they decide (see ``shown``)."""
    for split, where in (
        ("val", "the val windows"),
        ("probe", "one sample of the train windows"),
        ("unseen", "the episodes that dataset.unseen holds out of training"),
        ("inner", "the train episodes that dataset.inner_fraction holds out for tuning"),
    ):
        name = f"{split}/nrmse"
        scaled = "the root mean squared error of the actions, each divided by its standard deviation in train,"
        yield _error(name, f"{scaled} on {where}")
        yield _error(f"{name}/{{part*}}", f"{name} of {_PARTS}")


_ERROR_UNITS: tuple[tuple[str, Unit], ...] = (("rmse", "action"), ("nrmse", "spread"))

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
    _error("probe/rmse", "the RMSE on one sample of the train windows", shown=("table", "intervals", "curves")),
    _error("probe/rmse/{part*}", f"probe/rmse of {_PARTS}"),
    _error(
        "unseen/rmse",
        "the RMSE on the episodes that dataset.unseen holds out of training",
        shown=("bar", "end", "table", "intervals", "curves", "dashboard"),
    ),
    _error("unseen/rmse/{part*}", f"unseen/rmse of {_PARTS}"),
    _error("inner/rmse", "the RMSE on the train episodes that dataset.inner_fraction holds out for tuning"),
    _error("inner/rmse/{part*}", f"inner/rmse of {_PARTS}"),
    *_scaled_errors(),
    _error(
        "val/loss",
        "what training minimises, on the val windows",
        shown=("end", "table", "intervals", "curves", "dashboard", "changes"),
    ),
    _error("probe/loss", "the loss on one sample of the train windows"),
    _error("unseen/loss", "the loss on the episodes that dataset.unseen holds out of training"),
    _error("inner/loss", "the loss on the train episodes that dataset.inner_fraction holds out"),
    # Metrics of training. Each sampler draws different windows, so two training losses cannot be ranked: they have no
    # direction.
    Entry(
        pattern=LOSS,
        meaning="the mean loss of the windows drawn since the previous evaluation",
        shown=("bar", "end", "table", "curves", "dashboard", "changes"),
    ),
    Entry(
        pattern="train/rmse",
        meaning="the RMSE of the windows drawn since the previous evaluation",
        unit="action",
        shown=("curves", "changes"),
    ),
    Entry(pattern="train/loss/{part*}", meaning="train/loss of the windows of a scenario"),
    Entry(pattern="train/learning_rate", meaning="the learning rate of the last step"),
    Entry(pattern="train/grad_norm", meaning="the norm of the last step's gradient, before it is clipped"),
    Entry(pattern="train/skipped_steps", meaning="how many steps changed no weight, as their gradient overflowed"),
    Entry(
        pattern="train/windows_per_s",
        meaning="windows trained on per second, without the time of evaluations",
        unit="1/s",
        direction="higher",
    ),
    # The run's best evaluation. Its step is chosen on the val episodes themselves, which is optimistic, so this metric
    # may not decide a study.
    Entry(
        pattern="best/val/rmse",
        meaning="the lowest val/rmse of all evaluations",
        unit="action",
        direction="lower",
        shown=("end",),
    ),
    Entry(
        pattern="best/val/nrmse",
        meaning="the lowest val/nrmse of all evaluations",
        unit="spread",
        direction="lower",
    ),
    # Statistics of the drawn windows. See sampling.diagnostics.
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
    Entry(pattern=TARGET, meaning="the target share of a scenario, according to the sampler"),
    Entry(pattern=PHASE, meaning="the share of draws by the phase of their current frame, in tenths of an episode"),
    _drawn("{figure*}", "a figure of what was drawn"),
    # Results of closed-loop drives, by suite. Times and paths are means over the successful drives only. A run may have
    # none, and then it has no value: so these metrics may not decide a study.
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
    _of_suite(
        "path_ratio", "the mean length of the path to the goal, as a multiple of the expert's", direction="lower"
    ),
    _of_suite("command_change_m_s", "the mean change of the command from step to step", unit="m/s", direction="lower"),
    _of_suite("episodes", "the number of drives"),
    _of_suite("failure/{kind}", "the share of drives that failed in this way", direction="lower", is_detail=True),
    _of_suite("collision_rate", "the share of drives that ended with a collision", direction="lower"),
    _of_suite("wrong_target_rate", "the share of drives that ended at the other bottle", direction="lower"),
    _of_suite("left_room_rate", "the share of drives that left the room", direction="lower"),
    _of_suite("timeout_rate", "the share of drives that ran out of time", direction="lower"),
    # The costs of a run.
    Entry(pattern="samples_seen", meaning="the number of windows trained on"),
    Entry(
        pattern="windows_scored",
        meaning="the number of windows scored in the sampler's extra forward passes",
        direction="lower",
    ),
    Entry(pattern="wall_s", meaning="the time that training took", unit="s", direction="lower"),
    Entry(
        pattern="data_wait_s", meaning="the part of it that was spent on waiting for data", unit="s", direction="lower"
    ),
    Entry(
        pattern="memory/peak_gib",
        meaning="the peak memory",
        unit="GiB",
        direction="lower",
        kind="recorded",
    ),
    # Errors of the trained policy when one of its inputs is changed or removed, as the error that decides counts them.
    # See evaluation.shortcuts.
    Entry(pattern="shortcut/{probe}/rmse", meaning="the error on val under a probe", kind="recorded"),
    Entry(pattern="shortcut/{probe}/rmse_change", meaning="what a probe adds to it", kind="recorded"),
    Entry(pattern="shortcut/{figure*}", meaning="what the probes show", kind="recorded"),
    # Errors of the reference predictors, which are not trained, on the val windows.
    *(
        Entry(
            pattern=f"baseline/{name}/{error}",
            meaning=f"val/{error} of the {title}",
            unit=unit,
            title=title,
            kind="reference",
        )
        for error, unit in _ERROR_UNITS
        for name, title in PREDICTORS.items()
    ),
    Entry(
        pattern="baseline/{predictor}/rmse/{part*}",
        meaning=f"the RMSE of a predictor that is not trained, of {_PARTS}",
        unit="action",
        kind="reference",
    ),
    # Metrics of a user's own class or of another version of this package. They are compared, but without a direction.
    # They come last because ``entry_of`` takes the first pattern that matches.
    *(
        Entry(pattern=f"{split}/{{figure*}}", meaning="a figure that no other entry describes")
        for split in ("train", "val", "unseen", "inner", "probe", "best", "closed_loop")
    ),
)

_UNLISTED = Entry(pattern="{name*}", meaning="no metric of this vocabulary", kind="recorded")


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of an entry's ``pattern``, with its fields as named groups."""
    # re.escape also escapes the braces and the star, so both substitutions look for the escaped characters.
    text = re.sub(r"\\{(\w+)\\\*\\}", r"(?P<\1>.+)", re.escape(pattern))
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", text))


@cache
def entry_of(name: str) -> Entry:
    """Return the first entry whose pattern matches the metric ``name``; a placeholder entry if none does."""
    return next((entry for entry in VOCABULARY if _regex(entry.pattern).fullmatch(name)), _UNLISTED)


def title_of(name: str) -> str:
    """Return the title of the metric ``name`` for users: ``success in looks``, or the name itself."""
    entry = entry_of(name)
    match = _regex(entry.pattern).fullmatch(name)
    return name if entry.title is None or match is None else entry.title.format(**match.groupdict())


def is_metric(name: str) -> bool:
    """Return whether ``name`` is a metric that is compared between treatments, not an input or a reference figure."""
    return entry_of(name).kind == "compared"


def deciding_in(suite: str) -> list[str]:
    """Return the names of the metrics of one closed-loop suite that may be the primary metric of a study."""
    patterns = [entry.pattern for entry in VOCABULARY if entry.may_decide]
    return [pattern.format(suite=suite) for pattern in patterns if pattern.startswith("closed_loop/{suite}/")]


def is_reference(name: str) -> bool:
    """Return whether ``name`` is a metric of a reference predictor, which is not trained."""
    return entry_of(name).kind == "reference"


def shown(place: Place, *, error: str = ERROR) -> tuple[str, ...]:
    """Return the names of the metrics that are shown in ``place`` by default, in order.

    ``error`` is the error that decides. Where that is SCALED_ERROR, it is shown in place of ERROR, and likewise on the
    other splits and for the parts.
    """
    names = [entry.pattern for entry in VOCABULARY if place in entry.shown]
    return tuple(names) if error == ERROR else tuple(name.replace("/rmse", "/nrmse") for name in names)


def parts_of(names: Iterable[str], pattern: str) -> dict[str, str]:
    """Return the ``names`` that match ``pattern`` (an entry's pattern with one field), by the value of that field."""
    return {match[1]: name for name in names if (match := _regex(pattern).fullmatch(name))}


def is_better(name: str, difference: float) -> bool:
    """Return whether a value that is ``difference`` higher than another is better; False for an equal value."""
    return {"lower": difference < 0, "higher": difference > 0, None: False}[entry_of(name).direction]


def best_first(name: str, value: float | None) -> float:
    """Return a sort key that puts the best ``value`` first and a missing one last.

    A metric without a direction is sorted from low to high.
    """
    if value is None:
        return math.inf
    return -value if entry_of(name).direction == "higher" else value
