"""The description of what a robot's recordings hold: action and state signals, cameras and rate."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from mobile_vla.errors import ConfigError

SignalKind = Literal["velocity", "position", "delta", "effort", "binary", "unknown"]
"""``velocity``: 0 is standing still. ``position``: an absolute target or measurement, such as a joint angle. ``delta``:
a change of position per step. ``effort``: a force or torque. ``binary``: one of two values, such as an open or closed
gripper.
"""

NORMALISED = "normalised"
"""The unit of commands that were recorded as a share of the robot's range, such as a throttle in -1..1."""

_NOT_IN_METRIC_NAMES = re.compile(r"[/\s{}*]+")
_RESERVED = re.compile(r"(critical|rare|common|unknown|(horizon|phase|scenario|task|group|camera)_.*)")
"""Parts of metric names beside the signals' (``val/rmse/critical``)."""

SignalName = Annotated[str, Field(pattern=r"^[^/\s{}*]+$", max_length=200)]


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One column of a recording's actions or state.

    ``unit`` is the physical unit (``m/s``), ``normalised``, or None where nobody said. ``rest`` is the value at which
    the robot stands still; None where there is none (an absolute position) or nobody said. ``flips`` is whether the
    sign changes in a mirror image; None where nobody said.
    """

    name: SignalName
    unit: Annotated[str, Field(max_length=40)] | None = None
    kind: SignalKind = "unknown"
    rest: FiniteFloat | None = None
    flips: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One camera of a recording, with its recorded image size in pixels."""

    name: SignalName
    rows: Annotated[int, Field(gt=0)]
    columns: Annotated[int, Field(gt=0)]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What each recording of a data set holds: its signals in the order of their columns, its cameras, its rate.

    ``rate_hz`` is the number of frames a second; None where the recordings do not say.
    """

    actions: tuple[Signal, ...]
    state: tuple[Signal, ...] = ()
    cameras: tuple[Camera, ...]
    rate_hz: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @cached_property
    def action_names(self) -> tuple[str, ...]:
        """The names of the action signals, in the order of their columns."""
        return tuple(signal.name for signal in self.actions)

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """The names of the state signals, in the order of their columns."""
        return tuple(signal.name for signal in self.state)

    @cached_property
    def camera_names(self) -> tuple[str, ...]:
        """The names of the cameras, in order."""
        return tuple(camera.name for camera in self.cameras)

    @property
    def common_unit(self) -> str | None:
        """The unit that all action signals have; None where they differ or one has no known unit."""
        units = {signal.unit for signal in self.actions}
        return units.pop() if len(units) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain containers."""
        return asdict(self)

    def text(self) -> str:
        """Return the spec as JSON, with one signal or camera a line."""
        parts = self.to_json()
        lists = [
            f' "{name}": [' + ",".join(f"\n  {json.dumps(entry)}" for entry in parts[name]) + "]"
            for name in ("actions", "state", "cameras")
        ]
        return "{\n" + ",\n".join([*lists, f' "rate_hz": {json.dumps(self.rate_hz)}']) + "\n}\n"


def parse_spec(content: Mapping[str, Any]) -> Spec:
    """Return the spec that ``to_json`` gave; raises ``pydantic.ValidationError`` for another content."""
    return TypeAdapter(Spec).validate_python(content)


# REP 103 of ROS: x forward, y left, z up; angles counter-clockwise. The names are those of geometry_msgs/Twist.
_KNOWN = {
    signal.name: signal
    for signal in (
        Signal(name="linear_x", unit="m/s", kind="velocity", rest=0.0, flips=False),
        Signal(name="linear_y", unit="m/s", kind="velocity", rest=0.0, flips=True),
        Signal(name="angular_z", unit="rad/s", kind="velocity", rest=0.0, flips=True),
    )
}


def known_signal(name: str) -> Signal:
    """Return the signal called ``name``: with unit, kind, rest and mirror where the name is a standard one."""
    return _KNOWN.get(name) or Signal(name=name)


def clean_names(names: Iterable[str]) -> list[str]:
    """Return ``names`` such that each can be part of a metric's name, and no two are equal.

    Slashes and white space become ``_``; a name that already means a part of a metric gets the suffix ``_signal``.
    """
    result: list[str] = []
    for name in names:
        clean = _NOT_IN_METRIC_NAMES.sub("_", name.strip()).strip("_")[:150] or "unnamed"
        clean = f"{clean}_signal" if _RESERVED.fullmatch(clean) else clean
        number = 1
        while (name := clean if number == 1 else f"{clean}_{number}") in result:
            number += 1
        result.append(name)
    return result


def check_details(details: Mapping[str, Mapping[str, Any]], *, option: str) -> None:
    """Raise ``ConfigError`` where ``details``, fields of ``Signal`` by the signal's name, hold something else."""
    for name, given in details.items():
        try:
            if "name" in given:
                raise ConfigError(
                    f"{option}.{name}: a signal keeps its name; expected some of unit, kind, rest, flips."
                )
            TypeAdapter(Signal).validate_python({"name": name, **given})
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ConfigError(
                f"{option}.{name}: {dict(given)}; {found}. Expected some of unit, kind, rest and flips."
            ) from error


def with_details(signals: Sequence[Signal], details: Mapping[str, Mapping[str, Any]]) -> tuple[Signal, ...]:
    """Return ``signals`` with the fields that ``details`` gives for some of them by name."""
    return tuple(replace(signal, **details.get(signal.name, {})) for signal in signals)
