"""What a data set holds, before anything is decoded: signals with ranges, cameras, lengths, scenarios."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mobile_vla.data.dataset import Scan
from mobile_vla.data.labels.grammars import RECORDED_SPLITS, UNKNOWN, split_parts
from mobile_vla.data.labels.rules import clean_label
from mobile_vla.data.sources.contract import Recording
from mobile_vla.data.sources.names import own_name
from mobile_vla.inspection.names import propose_grammar
from mobile_vla.process.typed_commands import override
from mobile_vla.schema import Episode
from mobile_vla.spec import Camera, Signal

_MAX_SCENARIOS = 30
"""A field with more values than this tells episodes apart and does not group them."""

_HELD_OUT = ("valid", "val", "validation", "test", "eval", "unseen", "holdout", "held_out")
"""What the parts of a split are called that are not for training."""


@dataclass(frozen=True, kw_only=True)
class SignalRange:
    """The values of one recorded signal over all episodes, in its unit.

    ``low`` and ``high`` are the 1st and 99th percentile, ``smallest`` and ``largest`` all values. ``is_used`` is
    whether the data set's options choose it.
    """

    signal: Signal
    smallest: float
    low: float
    high: float
    largest: float
    num_values: int
    is_used: bool


@dataclass(frozen=True, kw_only=True)
class ScenarioChoice:
    """One way to tell scenarios apart: the overrides that choose it, and the episodes of each scenario."""

    overrides: tuple[str, ...]
    scenarios: Mapping[str, int]
    is_current: bool = False


@dataclass(frozen=True, kw_only=True)
class RecordedSplit:
    """A split that the recordings state: the field that holds it, and the number of episodes of each part.

    ``override`` holds out the parts that are not for training; None where none is called so. An episode can be in
    several parts, or in none.
    """

    field: str
    parts: Mapping[str, int]
    override: str | None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The contents of a data set; see the module.

    ``lengths`` are the numbers of frames of the episodes, sorted. ``rates_hz`` are the distinct recorded rates.
    ``duration_s`` is that of all episodes; None where one has no rate. ``cameras`` has, for each recorded camera,
    whether it is used. ``states_channel_order`` is that of the source.
    """

    format: str
    lengths: Sequence[int]
    rates_hz: Sequence[float]
    duration_s: float | None
    cameras: Sequence[tuple[Camera, bool]]
    actions: Sequence[SignalRange]
    state: Sequence[SignalRange]
    choices: Sequence[ScenarioChoice]
    splits: Sequence[RecordedSplit]
    states_channel_order: bool


def contents_of(scan: Scan, episodes: Sequence[Episode]) -> Contents:
    """Return the contents of ``scan``, of which ``episodes`` are the usable ones with their scenarios."""
    recordings = [scan.recordings[episode.name] for episode in episodes]
    recorded = recordings[0].spec
    assert scan.spec is not None
    used = scan.spec
    same = [recording for recording in recordings if recording.spec.action_names == recorded.action_names]
    return Contents(
        format=scan.format,
        lengths=sorted(episode.num_frames for episode in episodes),
        rates_hz=sorted({round(r.spec.rate_hz, 2) for r in recordings if r.spec.rate_hz is not None}),
        duration_s=_duration_s(recordings),
        cameras=[(camera, camera.name in used.camera_names) for camera in recorded.cameras],
        actions=_ranges(_as_stated(recorded.actions, used.actions), [r.actions for r in same], used.action_names),
        state=_ranges(
            _as_stated(recorded.state, used.state),
            [r.state for r in same if r.spec.state_names == recorded.state_names],
            used.state_names,
        ),
        choices=_choices(episodes),
        splits=_splits(episodes),
        states_channel_order=scan.source.states_channel_order,
    )


def _duration_s(recordings: Sequence[Recording]) -> float | None:
    seconds = [r.num_frames / r.spec.rate_hz for r in recordings if r.spec.rate_hz is not None]
    return sum(seconds) if len(seconds) == len(recordings) else None


def _as_stated(recorded: Sequence[Signal], used: Sequence[Signal]) -> list[Signal]:
    """Return ``recorded`` with what the user stated of the used ones."""
    by_name = {signal.name: signal for signal in used}
    return [by_name.get(signal.name, signal) for signal in recorded]


def _ranges(signals: Sequence[Signal], values: Sequence[np.ndarray], used: Sequence[str]) -> list[SignalRange]:
    if not signals or not values:
        return []
    values_FS = np.concatenate(values)
    low_S, high_S = np.quantile(values_FS, [0.01, 0.99], axis=0)
    return [
        SignalRange(
            signal=signal,
            smallest=float(column.min()),
            low=float(low),
            high=float(high),
            largest=float(column.max()),
            num_values=len(np.unique(column)),
            is_used=signal.name in used,
        )
        for signal, column, low, high in zip(signals, values_FS.T, low_S, high_S, strict=True)
    ]


def _choices(episodes: Sequence[Episode]) -> list[ScenarioChoice]:
    """Return the scenarios as they are, and what each other rule would give where it would give other, several groups.

    The same groups by other names are no choice: samplers, split and report would be the same.
    """
    current = [episode.scenario for episode in episodes]
    found = [ScenarioChoice(overrides=(), scenarios=dict(Counter(current).most_common()), is_current=True)]
    names = [own_name(episode.name, episode.path) for episode in episodes]
    if proposal := propose_grammar(names):
        read = [re.fullmatch(proposal.expression, name) for name in names]
        overrides = (override("dataset.grammars.own", proposal.expression), "dataset.scenario=[name]")
        if not _are_same_groups(current, [match["scenario"] if match else UNKNOWN for match in read]):
            found.append(ScenarioChoice(overrides=overrides, scenarios=proposal.scenarios))
    keys = dict.fromkeys(key for episode in episodes for key in episode.fields if key not in RECORDED_SPLITS)
    by_rule = {f"field:{key}": [e.fields.get(key, "") for e in episodes] for key in keys}
    by_rule["instruction"] = [episode.instruction for episode in episodes]
    for rule, texts in by_rule.items():
        labels = [clean_label(text) if text else UNKNOWN for text in texts]
        counts = Counter(labels)
        is_choice = 1 < len(counts) <= _MAX_SCENARIOS and 2 * len(counts) <= len(episodes)
        if is_choice and not _are_same_groups(current, labels):
            found.append(
                ScenarioChoice(overrides=(override("dataset.scenario", [rule]),), scenarios=dict(counts.most_common()))
            )
    return found


def _are_same_groups(labels: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether two labellings of the same episodes put the same ones together, whatever the groups are called."""
    return len(set(labels)) == len(set(others)) == len(set(zip(labels, others, strict=True)))


def _splits(episodes: Sequence[Episode]) -> list[RecordedSplit]:
    """Return the recorded splits of several parts; one part alone splits nothing."""
    found = []
    for field in RECORDED_SPLITS:
        parts = Counter(part for episode in episodes for part in split_parts(field, episode.fields))
        held_out = [f"{field}={part}" for part in parts if part.lower() in _HELD_OUT]
        text = override("dataset.unseen", held_out) if held_out and len(parts) > 1 else None
        if len(parts) > 1:
            found.append(RecordedSplit(field=field, parts=dict(parts.most_common()), override=text))
    return found
