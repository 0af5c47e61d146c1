"""Which signals and cameras of the recordings are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.contract import Recording
from mobile_vla.errors import ConfigError, DataError
from mobile_vla.spec import Signal, Spec, with_details
from mobile_vla.text import shortened

Names = Sequence[str] | Literal["all", "none"]
"""Names of signals or cameras, in the order in which a policy gets or predicts them; ``all`` of the recordings."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which signals and cameras of the recordings are used.

    ``signals`` has what the user states of some signals, by name: fields of ``Signal``. ``idle_actions`` and
    ``idle_state`` are recorded signals that ``all`` leaves out (``without_idle``).
    """

    actions: Names
    state: Names
    cameras: Names
    signals: Mapping[str, Mapping[str, Any]]
    idle_actions: tuple[str, ...] = ()
    idle_state: tuple[str, ...] = ()

    def spec_of(self, recording: Recording) -> Spec:
        """Return the recording's spec, cut to what is used; raises ``DataError`` where it lacks one of the names."""
        spec, place = recording.spec, recording.path
        actions = [signal for signal in spec.actions if signal.name not in self.idle_actions]
        state = [signal for signal in spec.state if signal.name not in self.idle_state]
        return Spec(
            actions=with_details(_chosen(actions, self.actions, place, "actions"), self.signals),
            state=with_details(_chosen(state, self.state, place, "state"), self.signals),
            cameras=_chosen(spec.cameras, self.cameras, place, "cameras"),
            rate_hz=spec.rate_hz,
        )


def _chosen(recorded: Sequence[Any], names: Names, path: Path, what: str) -> tuple[Any, ...]:
    if names == "all":
        return tuple(recorded)
    by_name = {entry.name: entry for entry in recorded}
    wanted = () if names == "none" else names
    if missing := [name for name in wanted if name not in by_name]:
        option = "model.state" if what == "state" else f"dataset.{what}"
        raise DataError(
            f"{path}: records the {what} {', '.join(by_name) or '(none)'}, but {option} asks for "
            f"{', '.join(missing)}. Leave it out of {option}, or record it."
        )
    return tuple(by_name[name] for name in wanted)


def check_names(chosen: Chosen, recordings: Sequence[Recording]) -> None:
    """Raise ``ConfigError`` where an option names what no recording has; one message in place of one a recording."""
    recorded: dict[str, dict[str, None]] = {"actions": {}, "state": {}, "cameras": {}}  # dicts keep the order
    for spec in {id(recording.spec): recording.spec for recording in recordings}.values():
        for what, names in zip(recorded, (spec.action_names, spec.state_names, spec.camera_names), strict=True):
            recorded[what].update(dict.fromkeys(names))
    for option, names, known in (
        ("dataset.actions", chosen.actions, recorded["actions"]),
        ("model.state", chosen.state, recorded["state"]),
        ("dataset.cameras", chosen.cameras, recorded["cameras"]),
        ("dataset.signals", list(chosen.signals), recorded["actions"] | recorded["state"]),
    ):
        unknown = [] if isinstance(names, str) else [name for name in names if name not in known]
        if unknown:
            expected = shortened(list(known), limit=12) if known else "none, as none is recorded"
            is_choice = known and option != "dataset.signals"
            remedy = f". Name those to use, or take all that are recorded: {option}=all" if is_choice else ""
            by_default = " (the default of dataset=auto)" if remedy and option != "model.state" else ""
            raise ConfigError(
                f"{option}: {', '.join(unknown)} is recorded nowhere; expected {expected}{remedy}{by_default}"
            )


def without_idle(chosen: Chosen, recordings: Sequence[Recording]) -> Chosen:
    """Return ``chosen`` with the optional signals that are 0 in every frame of all recordings as idle ones.

    Only the whole set can tell: a robot that can move sideways may not do so in every bag. A message of a mobile base
    holds all six velocities of a rigid body, and four outputs that are always 0 would take up a policy's capacity and
    lower every error that is a mean over the outputs.
    """
    if not any(recording.optional for recording in recordings):
        return chosen
    actions = _idle([(r.spec.actions, r.actions, r.optional) for r in recordings])
    state = _idle([(r.spec.state, r.state, r.optional) for r in recordings])
    return replace(
        chosen,
        idle_actions=actions if chosen.actions == "all" else (),
        idle_state=state if chosen.state == "all" else (),
    )


def _idle(recorded: Sequence[tuple[tuple[Signal, ...], NDArray[np.float32], tuple[str, ...]]]) -> tuple[str, ...]:
    """Return the optional signals that are 0 wherever they are recorded, from (signals, values [F, S], optional)."""
    optional: dict[str, None] = {}
    moving: set[str] = set()
    for signals, values_FS, names in recorded:
        is_moving_S = np.any(values_FS, axis=0).tolist()
        optional.update(dict.fromkeys(signal.name for signal in signals if signal.name in names))
        moving.update(signal.name for signal, is_moving in zip(signals, is_moving_S, strict=True) if is_moving)
    return tuple(name for name in optional if name not in moving)


def idle_notes(chosen: Chosen, recordings: Sequence[Recording], spec: Spec) -> Iterator[str]:
    """Yield a sentence for the actions, and one for the state, of which ``spec`` leaves out idle ones."""
    optional = dict.fromkeys(name for recording in recordings for name in recording.optional)
    if not optional:
        return
    recorded = (
        {name for recording in recordings for name in recording.spec.action_names},
        {name for recording in recordings for name in recording.spec.state_names},
    )
    for option, names, there, used in (
        ("dataset.actions", chosen.actions, recorded[0], spec.action_names),
        ("model.state", chosen.state, recorded[1], spec.state_names),
    ):
        idle = [name for name in optional if names == "all" and name in there and name not in used]
        if idle:
            yield (
                f"{', '.join(idle)}: 0 in every frame and not used, as messages have them for any robot. To use them, "
                f"name them in {option}"
            )
