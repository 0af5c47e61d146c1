"""Types of failure of a drive, named by what an observer of the robot sees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mobile_vla.closed_loop.rollout import Drive
from mobile_vla.sim.scene import OTHER_SIDE, ROBOT_RADIUS_M, STANDING_SPEED_M_S, STEP_S, STOP_TOLERANCE_M

_LAST_SECOND_STEPS = 10
_ASIDE_M = 0.15
_AHEAD_M = 0.4
_NEARER_M = 0.3
_NUM_REVERSALS = 4
_TOUCHING_M = 0.05


def failure_of(drive: Drive) -> str | None:
    """Return the first type in FAILURES whose condition holds; None for a success.

    ``left_right_confusion``: ended at the place before the other bottle, or past the boxes and 0.3 m nearer to that
    place than to its own. ``overshoot``: hit the target bottle, or drove past the place before it, forward or sideways.
    ``missed_stop``: came within the tolerance of that place and did not stop. ``false_stop``: stood elsewhere for the
    last second. ``oscillation``: changed between left and right four times or more. ``straight_only``: drove forward
    and never 0.15 m sideways. ``late_turn``: turned, but hit the front of a box. ``other``: none of these, for example
    a corner that was cut.
    """
    if drive.outcome == "success":
        return None
    return next((name for name, holds in _CHECKS.items() if holds(drive)), OTHER)


def goal_distance_m(drive: Drive, side: str | None = None) -> NDArray[np.float64]:
    """Return the distance from every position [F+1] to the place before a bottle, by default the target."""
    return np.hypot(*(drive.position - drive.state.scene.goal(side)).T)


def _is_confused(drive: Drive) -> bool:
    if drive.outcome == "wrong_target":
        return True
    scene = drive.state.scene
    is_past_boxes = drive.position[-1, 0] > max((box.x + box.half_x for box in scene.boxes), default=-np.inf)
    other = goal_distance_m(drive, OTHER_SIDE[scene.scenario.side])[-1]
    return bool(is_past_boxes and other < goal_distance_m(drive)[-1] - _NEARER_M)


def _overshoots(drive: Drive) -> bool:
    scene = drive.state.scene
    goal_x, goal_y = scene.goal()
    x, y = drive.position.T
    is_past_ahead = (x > goal_x + STOP_TOLERANCE_M) & (np.abs(y - goal_y) < 2 * STOP_TOLERANCE_M)
    is_past_aside = (x > x[0] + _AHEAD_M) & (np.sign(goal_y - y[0]) * (y - goal_y) > 2 * STOP_TOLERANCE_M)
    return drive.touched == f"bottle_{scene.scenario.side}" or (
        not _drives_straight(drive) and bool((is_past_ahead | is_past_aside).any())
    )


def _misses_stop(drive: Drive) -> bool:
    return bool(goal_distance_m(drive).min() <= STOP_TOLERANCE_M)


def _stops_falsely(drive: Drive) -> bool:
    speed_m_s = np.hypot(*np.diff(drive.position, axis=0).T) / STEP_S
    return len(speed_m_s) >= _LAST_SECOND_STEPS and bool((speed_m_s[-_LAST_SECOND_STEPS:] < STANDING_SPEED_M_S).all())


def _drives_straight(drive: Drive) -> bool:
    ahead_m, aside_m = (drive.position - drive.position[0]).T
    return bool(ahead_m.max() > _AHEAD_M and np.abs(aside_m).max() < _ASIDE_M)


def _oscillates(drive: Drive) -> bool:
    aside_m_s = drive.command[:, 1]
    signs = np.sign(aside_m_s[np.abs(aside_m_s) > STANDING_SPEED_M_S])
    return int((np.diff(signs) != 0).sum()) >= _NUM_REVERSALS


def _turns_late(drive: Drive) -> bool:
    x, y = drive.position[-1]
    gaps = [float(box.distance(x, y)) - ROBOT_RADIUS_M for box in drive.state.scene.boxes]
    if drive.outcome != "collision" or min(gaps, default=np.inf) > _TOUCHING_M:
        return False
    box = drive.state.scene.boxes[int(np.argmin(gaps))]
    return bool(x < box.x - box.half_x)


# The order matters: a drive can meet several conditions, and the first one is reported.
_CHECKS: dict[str, Callable[[Drive], bool]] = {
    "left_right_confusion": _is_confused,
    "overshoot": _overshoots,
    "missed_stop": _misses_stop,
    "false_stop": _stops_falsely,
    "oscillation": _oscillates,
    "straight_only": _drives_straight,
    "late_turn": _turns_late,
}
OTHER = "other"
FAILURES = (*_CHECKS, OTHER)
