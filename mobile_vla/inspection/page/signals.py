"""The signals of episodes as the page's script draws them: one small chart a signal, all to one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.contract import Recording
from mobile_vla.inspection.contents import Contents, SignalRange

_MAX_CHARTS = 120
"""Charts of signals; a person looks at no more."""

_MAX_NUMBERS = 250_000
"""Numbers of all charts of all episodes, 7 bytes each in the page."""

_MIN_POINTS, _MAX_POINTS = 40, 400
"""Points of one line."""

_FAR = 3.0
"""An axis that would be this many times the range between the 1st and 99th percentile is cut to that range."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One small chart: an action, a state, or both where they have the same name.

    ``low`` and ``high`` are the ends of its axis for all episodes.
    """

    name: str
    unit: str
    rest: float | None
    low: float
    high: float
    has_action: bool
    has_state: bool
    is_used: bool


@dataclass(frozen=True, kw_only=True)
class Charts:
    """The charts of a data set, the signals that never change and their values, and the number of those left out."""

    shown: Sequence[Chart]
    constant: Sequence[tuple[str, float]]
    num_left_out: int

    def to_json(self) -> list[dict[str, Any]]:
        """Return the charts for the script."""
        return [
            {"name": c.name, "unit": c.unit, "rest": c.rest, "low": c.low, "high": c.high, "isUsed": c.is_used}
            for c in self.shown
        ]


def charts_of(contents: Contents) -> Charts:
    """Return the charts of all signals: actions first, each with the state of the same name."""
    state = {entry.signal.name: entry for entry in contents.state}
    pairs: list[tuple[SignalRange | None, SignalRange | None]] = [
        (action, state.pop(action.signal.name, None)) for action in contents.actions
    ]
    pairs += [(None, entry) for entry in state.values()]
    charts, constant = [], []
    for action, measured in pairs:
        known = [entry for entry in (action, measured) if entry is not None]
        if all(entry.num_values == 1 for entry in known):
            constant.append((known[0].signal.name, known[0].smallest))
        else:
            charts.append(_chart(known, has_action=action is not None, has_state=measured is not None))
    return Charts(shown=charts[:_MAX_CHARTS], constant=constant, num_left_out=max(len(charts) - _MAX_CHARTS, 0))


def _chart(known: Sequence[SignalRange], *, has_action: bool, has_state: bool) -> Chart:
    signal = known[0].signal
    low, high = min(entry.smallest for entry in known), max(entry.largest for entry in known)
    usual_low, usual_high = min(entry.low for entry in known), max(entry.high for entry in known)
    if usual_high > usual_low and high - low > _FAR * (usual_high - usual_low):
        margin = (usual_high - usual_low) / 2
        low, high = max(low, usual_low - margin), min(high, usual_high + margin)
    return Chart(
        name=signal.name,
        unit=signal.unit or "",
        rest=signal.rest,
        low=_short(low),
        high=_short(high),
        has_action=has_action,
        has_state=has_state,
        is_used=any(entry.is_used for entry in known),
    )


def lines_of(recording: Recording, charts: Charts, *, num_episodes: int) -> dict[str, Any]:
    """Return the lines of one episode: first frames of the points, and ``actions`` and ``state`` by chart or None."""
    num_lines = max(sum(chart.has_action + chart.has_state for chart in charts.shown), 1)
    points = int(np.clip(_MAX_NUMBERS // (num_lines * num_episodes), _MIN_POINTS, _MAX_POINTS))
    starts = np.unique(np.linspace(0, recording.num_frames, min(points, recording.num_frames) + 1).astype(int))[:-1]
    actions = dict(zip(recording.spec.action_names, recording.actions.T, strict=True))
    state = dict(zip(recording.spec.state_names, recording.state.T, strict=True))
    return {
        "rows": starts.tolist(),
        "actions": [_line(actions, chart.name, starts) if chart.has_action else None for chart in charts.shown],
        "state": [_line(state, chart.name, starts) if chart.has_state else None for chart in charts.shown],
    }


def _line(columns: Mapping[str, NDArray[np.float32]], name: str, starts: NDArray[np.int64]) -> list[float] | None:
    """Return one value for each point: of the frames that it stands for, the one farthest from the mean.

    So a spike of a single frame is seen also where a long episode has fewer points than frames.
    """
    if name not in columns:
        return None
    column_F = columns[name]
    mean = column_F.mean()
    highest, lowest = np.maximum.reduceat(column_F, starts), np.minimum.reduceat(column_F, starts)
    farthest = np.where(highest - mean > mean - lowest, highest, lowest)
    return [_short(value) for value in farthest.tolist()]


def _short(value: float) -> float:
    return float(f"{value:.4g}")
