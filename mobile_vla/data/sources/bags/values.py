"""The numbers of a message, by name: the commands and states of a robot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from mobile_vla.spec import Signal, known_signal

MAX_VALUES = 1000
"""Maximum number of values of one message."""

_MAX_DEPTH = 8

_TWIST = {
    "linear_x": known_signal("linear_x"),
    "linear_y": known_signal("linear_y"),
    "linear_z": Signal(name="linear_z", unit="m/s", kind="velocity", rest=0.0, flips=False),
    "angular_x": Signal(name="angular_x", unit="rad/s", kind="velocity", rest=0.0, flips=True),
    "angular_y": Signal(name="angular_y", unit="rad/s", kind="velocity", rest=0.0, flips=False),
    "angular_z": known_signal("angular_z"),
}
"""The components of geometry_msgs/Twist. In a mirror image left and right are exchanged: roll and yaw change sign."""

_NOT_ON_EVERY_ROBOT = ("linear_y", "linear_z", "angular_x", "angular_y")
"""The components of a Twist that a car or a differential drive has not: its commands hold 0 there."""

_POSE = {
    "x": Signal(name="x", unit="m", kind="position", flips=False),
    "y": Signal(name="y", unit="m", kind="position", flips=True),
    "yaw": Signal(name="yaw", unit="rad", kind="position", flips=True),
}


def is_twist(type_name: str) -> bool:
    """Return whether messages of this type are commands with the components of a Twist."""
    return type_name in ("geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped")


def is_optional(name: str, type_name: str) -> bool:
    """Return whether a message of this type holds the value ``name`` also for a robot that cannot move so."""
    return is_twist(type_name) and name in _NOT_ON_EVERY_ROBOT


def values_of(message: Any, type_name: str) -> dict[str, float]:
    """Return the values of a message by name, in the order of its definition; raises ``ValueError`` for too many.

    A Twist gives its six components, odometry the pose in the plane and the velocities, JointState the positions by
    the names of the joints. Of any other message all numbers are returned, by the names of their fields.
    """
    if type_name == "sensor_msgs/msg/JointState":
        return _joints(message)
    if type_name == "nav_msgs/msg/Odometry":
        pose, twist = message.pose.pose, message.twist.twist
        return {
            "x": float(pose.position.x),
            "y": float(pose.position.y),
            "yaw": _yaw(pose.orientation),
            "linear_x": float(twist.linear.x),
            "linear_y": float(twist.linear.y),
            "angular_z": float(twist.angular.z),
        }
    body = message.twist if type_name == "geometry_msgs/msg/TwistStamped" else message
    values: dict[str, float] = {}
    for name, value in _numbers(body, "", 0):
        if len(values) >= MAX_VALUES:
            raise ValueError(f"a message holds more than {MAX_VALUES} numbers")
        values[name] = value
    return values


def signal_of(name: str, type_name: str) -> Signal:
    """Return what is known of a value: of a Twist and odometry unit, kind, rest and mirror; of a joint its kind."""
    if is_twist(type_name):
        return _TWIST.get(name) or Signal(name=name)
    if type_name == "nav_msgs/msg/Odometry":
        return _POSE.get(name) or _TWIST.get(name) or Signal(name=name)
    # A joint turns (rad) or slides (m): the message does not say which.
    return Signal(name=name, kind="position" if type_name == "sensor_msgs/msg/JointState" else "unknown")


def renamed(signal: Signal, name: str) -> Signal:
    """Return ``signal`` under another name."""
    return replace(signal, name=name)


def _joints(message: Any) -> dict[str, float]:
    names, positions = list(message.name), np.asarray(message.position)
    if len(names) > MAX_VALUES:
        raise ValueError(f"a message holds more than {MAX_VALUES} joints")
    if len(positions) == 0:
        return {}  # allowed by the definition: this publisher sends velocities or efforts alone
    if len(names) != len(positions):
        raise ValueError(f"a message holds {len(names)} names of joints and {len(positions)} positions")
    return {str(name): float(position) for name, position in zip(names, positions, strict=True)}


def _yaw(orientation: Any) -> float:
    """Return the rotation about the vertical axis in radians, -pi to pi."""
    x, y, z, w = orientation.x, orientation.y, orientation.z, orientation.w
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def _numbers(value: Any, name: str, depth: int) -> Iterator[tuple[str, float]]:
    """Yield all numbers in a message with the names of their fields, joined by ``_``; headers are left out."""
    if isinstance(value, bool | int | float | np.number | np.bool_):
        yield name, float(value)
    elif isinstance(value, np.ndarray | list):
        if len(value) > MAX_VALUES:
            raise ValueError(f"the field {name} holds {len(value)} entries; expected at most {MAX_VALUES}")
        for index, entry in enumerate(value):
            yield from _numbers(entry, f"{name}_{index}" if name != "data" else str(index), depth + 1)
    elif hasattr(value, "__dataclass_fields__") and depth < _MAX_DEPTH:
        for field_name in value.__dataclass_fields__:
            if field_name not in ("header", "layout"):
                own = field_name.rstrip("_")
                yield from _numbers(getattr(value, field_name), f"{name}_{own}" if name else own, depth + 1)
