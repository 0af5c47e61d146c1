"""What errors of actions are measured by: the spread of each signal in train, its value at rest, and its group."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.batches import Targets
from mobile_vla.metrics import AUTO, SCALED_ERROR, error_of
from mobile_vla.policy.normalizer import MIN_SPREAD
from mobile_vla.spec import Signal, Spec

SIDEWAYS = ("linear_y", "angular_z")
"""Velocities whose sign is a side, the clearer one first: positive values mean left and counter-clockwise (REP 103)."""

_NOT_IN_A_LABEL = re.compile(r"[^\w.%°-]+")


@dataclass(frozen=True, kw_only=True)
class ActionScale:
    """The A action signals as errors see them.

    ``error`` is the error that decides (``val/rmse`` or ``val/nrmse``). ``spread_A`` are the standard deviations over
    the train frames, in the signals' units; NaN where a signal is constant there. ``rest_A`` are the values at rest;
    NaN where a signal has none. ``groups`` maps the label of each group to the indices of its signals (see
    ``groups_of``). ``sideways`` is the index of the signal that tells left from right; None where there is none.
    """

    names: tuple[str, ...]
    error: str
    spread_A: NDArray[np.float64]
    rest_A: NDArray[np.float64]
    groups: Mapping[str, tuple[int, ...]]
    sideways: int | None

    @classmethod
    def of(cls, spec: Spec, train: Sequence[NDArray[np.float32]], *, primary: str = AUTO) -> ActionScale:
        """Return the scale for data of ``spec``; ``train`` are the actions [F, A] of the train episodes."""
        return cls(
            names=spec.action_names,
            error=error_of(spec, primary=primary),
            spread_A=spread_of(train),
            rest_A=rest_of(spec.actions),
            groups=groups_of(spec.actions),
            sideways=_sideways_of(spec.actions),
        )

    @property
    def is_scaled(self) -> bool:
        """Whether the error that decides is in units of each signal's spread."""
        return self.error == SCALED_ERROR

    @property
    def varying(self) -> list[int]:
        """The indices of the signals that vary in train; all, if none does."""
        return np.flatnonzero(~np.isnan(self.spread_A)).tolist() or list(range(len(self.spread_A)))

    def scaled(self, squared: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return squared errors [..., A] in units of each signal's squared spread, [..., V], of those in ``varying``.

        A signal that is constant in train is left out: no policy can learn how it varies, and there is no size to
        measure its error by. Its error in its own unit is ``val/rmse/<signal>``. If all are constant, their spread
        counts as 1.
        """
        columns = self.varying
        return squared[..., columns] / np.square(np.nan_to_num(self.spread_A[columns], nan=1.0))

    def decided(self, squared: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return squared errors [..., A] as ``error`` counts them: in the signals' units, or scaled."""
        return self.scaled(squared) if self.is_scaled else squared


def spread_of(train: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the standard deviation of each signal over all frames of ``train``; NaN where it is constant."""
    spread_A = np.concatenate(train).astype(np.float64).std(0)
    return np.where(spread_A < MIN_SPREAD, np.nan, spread_A)


def rest_of(signals: Sequence[Signal]) -> NDArray[np.float64]:
    """Return the value at rest of each signal, NaN where it has none."""
    return np.array([np.nan if signal.rest is None else signal.rest for signal in signals])


def groups_of(signals: Sequence[Signal]) -> dict[str, tuple[int, ...]]:
    """Return the groups of signals of one kind and unit: label to indices, in the order of the signals.

    A label is what is known of kind and unit, such as ``position_rad``, ``velocity_m_per_s`` or ``unknown``.
    """
    groups: dict[str, tuple[int, ...]] = {}
    for index, signal in enumerate(signals):
        unit = _NOT_IN_A_LABEL.sub("_", (signal.unit or "").replace("/", "_per_")).strip("_")
        known = [text for text in (signal.kind, unit) if text not in ("", "unknown")]
        label = "_".join(known) or "unknown"
        groups[label] = (*groups.get(label, ()), index)
    return groups


def _sideways_of(signals: Sequence[Signal]) -> int | None:
    by_name = {signal.name: index for index, signal in enumerate(signals) if signal.flips and signal.kind == "velocity"}
    return next((by_name[name] for name in SIDEWAYS if name in by_name), None)


def previous_actions(
    targets: Targets, *, rest_A: NDArray[np.float64] | None, otherwise: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Return the action before the current frame of each window [N, A], in the signals' units.

    Before an episode's first frame it is the value at rest, and ``otherwise`` ([A] or [N, A]) for a signal that has
    none: an absolute position of 0 would be a place where the robot never was. ``rest_A`` None means 0 for all signals.
    """
    start = np.zeros(1) if rest_A is None else np.where(np.isnan(rest_A), otherwise, rest_A)
    is_first_N = targets.frame_NK[:, 0] == 0
    return np.where(is_first_N[:, None], start, targets.previous_NA).astype(np.float32)
