"""Plan the cheapest sequence of key pulses to a place, on the lattice of positions that the keyboard can reach.

Every step moves one lattice cell along each axis whose key is held, so a plan is exact: no controller has to track a
path, and there is no tracking error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from mobile_vla.errors import UserError
from mobile_vla.sim.scene import ROBOT_SPEED_M_S, STEP_S, STOP_TOLERANCE_M, Scene

CELL_M = ROBOT_SPEED_M_S * STEP_S

DIRECTIONS = np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y])
"""The eight moving keyboard classes as signs of (linear_x, linear_y); the ninth class is standing."""

MAX_PULSE_STEPS = 4
"""People hold a key for 0.3 to 0.4 s; shorter pulses are possible and cost more."""


class NoWayError(UserError):
    """The error that no sequence of pulses reaches the goal at the required distance from all objects."""


@dataclass(frozen=True, kw_only=True)
class PulseCosts:
    """The costs of a driver's plan, in units of one straight step of 0.1 s.

    ``diagonal``: a step with two keys held. ``press``: each new pulse. ``tap``: each step by which a pulse is shorter
    than three. ``left_bias``: added for a step in the left half of the room and subtracted in the right half.
    """

    diagonal: float
    press: float
    tap: float
    left_bias: float


@dataclass(frozen=True, kw_only=True)
class PulsePlan:
    """All collision-free pulses, one row each, with the cost of the way to the goal that starts with them.

    A pulse holds ``DIRECTIONS[direction]`` for ``num_steps`` from cell ``begin`` to cell ``end``; ``cost`` is its own
    cost plus that of the cheapest way from its end to ``goal``. Cells are flat indices of the lattice.
    """

    start: int
    goal: int
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    direction: NDArray[np.int64]
    num_steps: NDArray[np.int64]
    cost: NDArray[np.float64]


def plan_pulses(scene: Scene, *, clearance_m: float, costs: PulseCosts) -> PulsePlan:
    """Return all pulses with their cost-to-go to the scene's goal, at least ``clearance_m`` away from all objects.

    Raises ``NoWayError`` if the goal cannot be reached from the start.
    """
    x, y = _lattice(scene)
    is_free_XY = scene.clearance(x[:, None], y[None, :]) >= clearance_m
    start = _nearest_free(is_free_XY, x, y, scene.start)
    goal = _nearest_free(is_free_XY, x, y, scene.goal())
    begin, end, direction, num_steps, own_cost = _all_pulses(is_free_XY, y, costs)
    # On the reversed graph: one search from the goal gives the cost-to-go of every cell, and the expert may leave the
    # cheapest way anywhere.
    reverse = coo_array((own_cost, (end, begin)), shape=(is_free_XY.size, is_free_XY.size)).tocsr()
    to_go = dijkstra(reverse, indices=goal)
    goal_error_m = np.hypot(x[goal // len(y)] - scene.goal()[0], y[goal % len(y)] - scene.goal()[1])
    if not np.isfinite(to_go[start]) or goal_error_m > STOP_TOLERANCE_M:
        raise NoWayError(
            f"scenario {scene.scenario.name}: no way from {scene.start} to {scene.goal()} that keeps "
            f"{clearance_m:.2f} m from everything; make room around the boxes and bottles"
        )
    return PulsePlan(
        start=start,
        goal=goal,
        begin=begin,
        end=end,
        direction=direction,
        num_steps=num_steps,
        cost=own_cost + to_go[end],
    )


def _lattice(scene: Scene) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the x and y coordinates of all cells inside the room; the scene's start is a cell."""

    def axis(start: float, low: float, high: float) -> NDArray[np.float64]:
        return start + CELL_M * np.arange(np.ceil((low - start) / CELL_M), np.floor((high - start) / CELL_M) + 1)

    room = scene.room
    return (
        axis(scene.start[0], room.back_x, room.front_x),
        axis(scene.start[1], -room.half_width, room.half_width),
    )


def _nearest_free(
    is_free_XY: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64], place: tuple[float, float]
) -> int:
    distance = np.hypot(x[:, None] - place[0], y[None, :] - place[1])
    return int(np.where(is_free_XY, distance, np.inf).argmin())


def _all_pulses(
    is_free_XY: NDArray[np.bool_], y: NDArray[np.float64], costs: PulseCosts
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return begin, end, direction, num_steps and own cost of every pulse whose cells are all free."""
    num_x, num_y = is_free_XY.shape
    cell_XY = np.where(is_free_XY, np.arange(is_free_XY.size).reshape(num_x, num_y), -1)
    # Padding with -1 makes cells outside the lattice count as blocked, so that whole arrays can be shifted.
    padded = np.pad(cell_XY, MAX_PULSE_STEPS, constant_values=-1)
    pulses = []
    for number, (step_x, step_y) in enumerate(DIRECTIONS):
        is_open = is_free_XY.copy()
        toll_XY = np.zeros(is_free_XY.shape)
        for num_steps in range(1, MAX_PULSE_STEPS + 1):
            from_x, from_y = MAX_PULSE_STEPS + num_steps * step_x, MAX_PULSE_STEPS + num_steps * step_y
            end_XY = padded[from_x : from_x + num_x, from_y : from_y + num_y]
            # Accumulated over the steps: a pulse is open only if all shorter pulses in its direction are.
            is_open &= end_XY >= 0
            toll_XY += costs.left_bias * np.sign(y)[end_XY % num_y]
            fixed = costs.press + costs.tap * max(3 - num_steps, 0)
            held = num_steps * (costs.diagonal if step_x and step_y else 1.0)
            begin = cell_XY[is_open]
            rows = np.full(len(begin), number), np.full(len(begin), num_steps)
            pulses.append((begin, end_XY[is_open], *rows, fixed + held + toll_XY[is_open]))
    begin, end, direction, num_steps, cost = (np.concatenate(column) for column in zip(*pulses, strict=True))
    return begin, end, direction, num_steps, cost
