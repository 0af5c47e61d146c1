"""How often each kind of action occurs: by class of a base's velocities, and signal by signal for all other actions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_vla.policy.normalizer import MIN_SPREAD
from mobile_vla.schema import Episode
from mobile_vla.spec import Signal, Spec

_MAX_IN_CLASSES = 3
"""A base has two or three velocities, whose signs make up to 27 classes. Six of a moving arm would make 729, each of
them rare: such signals are counted one by one."""

_RESTING_SHARE = 0.05
"""A signal rests below this share of its largest deviation, because a joystick at rest does not give exactly 0."""

_MOVING_SHARE = 0.01
"""A position moves if it differs from the frame before by more than this share of its range: encoders are noisy."""

_DIRECTIONS = {"linear_x": ("forward", "back"), "linear_y": ("left", "right"), "angular_z": ("turn left", "turn right")}


def action_shares(episodes: Sequence[Episode], spec: Spec) -> dict[str, float]:
    """Return the share of frames by class of action, the most frequent first; empty without velocities of a base.

    A class is the signs of these velocities relative to their values at rest (see ``base_velocities``).
    """
    columns = base_velocities(spec.actions)
    if not columns:
        return {}
    deviation_FA = np.concatenate([e.actions[:, columns] for e in episodes]) - _rest_of(spec.actions, columns)
    signs_FA = np.where(_is_away(deviation_FA), np.sign(deviation_FA), 0).astype(int)
    classes = Counter(map(tuple, signs_FA.tolist()))
    names = [spec.action_names[index] for index in columns]
    return {_class_name(signs, names): n / len(deviation_FA) for signs, n in classes.most_common()}


def base_velocities(signals: Sequence[Signal]) -> list[int]:
    """Return the indices of the velocities with a value at rest; empty if they are too many to be those of a base."""
    columns = [index for index, signal in enumerate(signals) if signal.kind == "velocity" and signal.rest is not None]
    return columns if len(columns) <= _MAX_IN_CLASSES else []


def moving_shares(episodes: Sequence[Episode], spec: Spec) -> dict[str, float]:
    """Return the share of frames in which each action moves, the most active signal first; 0 for a constant one.

    Signals of ``base_velocities`` and binary ones are left out. A velocity or a delta with a value at rest moves when
    it is away from that value; any other signal moves when it differs from the frame before in its episode.
    """
    in_classes = base_velocities(spec.actions)
    shares = {}
    for index, signal in enumerate(spec.actions):
        if index in in_classes or signal.kind == "binary":
            continue
        columns = [episode.actions[:, index].astype(np.float64) for episode in episodes]
        values_F = np.concatenate(columns)
        if signal.rest is not None and signal.kind in ("velocity", "delta"):
            moves = _is_away(values_F - signal.rest)
        else:
            moves = np.abs(np.concatenate([np.diff(column) for column in columns])) > _MOVING_SHARE * np.ptp(values_F)
        is_constant = values_F.std() < MIN_SPREAD
        shares[signal.name] = 0.0 if is_constant or not len(moves) else float(moves.mean())
    return dict(sorted(shares.items(), key=lambda entry: -entry[1]))


def binary_shares(episodes: Sequence[Episode], spec: Spec) -> dict[str, dict[str, float]]:
    """Return for each binary action the share of frames of each of its values."""
    shares = {}
    for index, signal in enumerate(spec.actions):
        if signal.kind == "binary":
            values, counts = np.unique(np.concatenate([e.actions[:, index] for e in episodes]), return_counts=True)
            shares[signal.name] = {
                f"{value:g}": n / counts.sum() for value, n in zip(values.tolist(), counts.tolist(), strict=True)
            }
    return shares


def _is_away(deviation: NDArray[np.floating]) -> NDArray[np.bool_]:
    return np.abs(deviation) > _RESTING_SHARE * np.abs(deviation).max(0)


def _rest_of(signals: Sequence[Signal], columns: Sequence[int]) -> NDArray[np.float64]:
    return np.array([signals[index].rest for index in columns], np.float64)


def _class_name(signs: Sequence[int], names: Sequence[str]) -> str:
    words = [
        _DIRECTIONS.get(name, (f"{name} +", f"{name} -"))[0 if sign > 0 else 1]
        for sign, name in zip(signs, names, strict=True)
        if sign
    ]
    return " + ".join(words) or "stop"
