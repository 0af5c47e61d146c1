"""Drive a scene like a person at a keyboard: near-optimal key pulses, a reaction time, small hesitations, a stop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_vla.sim.demonstrations.planner import DIRECTIONS, PulseCosts, PulsePlan, plan_pulses
from mobile_vla.sim.scene import ROBOT_SPEED_M_S, STEP_S, STOP_TOLERANCE_M, Scene

MAX_FRAMES = 60
MIN_FRAMES = 18

_SUBSTEPS = 4


@dataclass(frozen=True, kw_only=True)
class Manner:
    """The driving style of one drive.

    ``temperature`` is the regret, in steps of 0.1 s, at which a pulse is chosen e times less often than the best one;
    ``hesitation_rate`` is the probability of standing for one step before a pulse.
    """

    costs: PulseCosts
    clearance_m: float
    temperature: float
    reaction_steps: int
    hesitation_rate: float
    stop_steps: int


def sample_manner(rng: np.random.Generator) -> Manner:
    """Draw the driving style of one drive."""
    return Manner(
        costs=PulseCosts(
            diagonal=rng.uniform(1.45, 1.90),
            press=rng.uniform(0.3, 0.7),
            tap=rng.uniform(0.3, 0.6),
            left_bias=rng.normal(0.0, 0.02),
        ),
        clearance_m=rng.uniform(0.15, 0.21),
        temperature=rng.uniform(0.30, 0.60),
        reaction_steps=int(rng.integers(0, 2)),
        hesitation_rate=rng.uniform(0.0, 0.04),
        stop_steps=int(rng.integers(3, 7)),
    )


def drive(scene: Scene, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the actions [F, 3] (m/s, m/s, rad/s) of one drive from start to goal; the first and the last are zero.

    A drive that takes too long is cut after MAX_FRAMES. Raises ``NoWayError`` if the goal cannot be reached.
    """
    manner = sample_manner(rng)
    plan = plan_pulses(scene, clearance_m=manner.clearance_m, costs=manner.costs)
    standing = [(0, 0)]
    keys = standing * (1 + manner.reaction_steps)
    cell = plan.start
    while cell != plan.goal and len(keys) < MAX_FRAMES:
        if rng.uniform() < manner.hesitation_rate:
            keys += standing
        pulse = _choose(plan, cell, manner.temperature, rng)
        keys += [tuple(DIRECTIONS[plan.direction[pulse]])] * int(plan.num_steps[pulse])
        cell = int(plan.end[pulse])
    keys += standing * manner.stop_steps
    return to_actions(keys[:MAX_FRAMES])


def to_actions(keys: list[tuple[int, int]]) -> NDArray[np.float32]:
    """Return actions [F, 3] in physical units for F pairs of signs (forward, left); the third, angular_z, is 0."""
    actions = np.zeros((len(keys), 3), np.float32)
    actions[:, :2] = np.array(keys) * ROBOT_SPEED_M_S
    return actions


def positions(scene: Scene, actions: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the robot's position at each frame [F, 2], before that frame's action is executed."""
    moves = actions[:, :2].astype(np.float64) * STEP_S
    return np.array(scene.start) + np.cumsum(np.vstack([np.zeros((1, 2)), moves[:-1]]), axis=0)


def succeeds(scene: Scene, actions: NDArray[np.float32]) -> bool:
    """Return whether a drive touches nothing and ends standing within the tolerance of the goal."""
    path = positions(scene, actions)
    # Also between frames, which are up to 16 cm apart: the robot could cut a corner of a box between two of them.
    fractions = np.arange(_SUBSTEPS)[:, None, None] / _SUBSTEPS
    between = path[:-1] + fractions * (path[1:] - path[:-1])
    is_clear = scene.clearance(between[..., 0], between[..., 1]).min() > 0
    goal_error_m = np.hypot(*(path[-1] - scene.goal()))
    return bool(is_clear and goal_error_m <= STOP_TOLERANCE_M and not actions[-1].any())


def _choose(plan: PulsePlan, cell: int, temperature: float, rng: np.random.Generator) -> int:
    # A softmax over the regret, so that drives are near the optimum but differ, as those of people do.
    options = np.flatnonzero(plan.begin == cell)
    regret = plan.cost[options] - plan.cost[options].min()
    odds = np.exp(-regret / temperature)
    return int(rng.choice(options, p=odds / odds.sum()))
