"""One record per drive, and rates and means over the records of a suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from mobile_vla.closed_loop.failures import FAILURES, failure_of, goal_distance_m
from mobile_vla.closed_loop.rollout import Drive
from mobile_vla.sim.scene import STEP_S, Outcome

_NUM_PLACE_FIELDS = 5
"""First fields of a scenario's name: number of boxes, layout, side, placement, distance. Colours and task follow."""


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """One line of ``episode_results.jsonl``: the drive from initial state ``index`` of ``suite``.

    ``side`` is the side of the target bottle. ``task`` is the side or colour that the instruction names; None if both
    bottles have the same colour, so that there is only one task. ``final_error_m`` is the distance at the end to the
    place before the target; ``expert_path_length_m`` is the length of the expert's way from the same state, None if it
    found none. ``command_change_m_s`` measures smoothness: the mean change of the command from step to step.
    ``time_to_goal_s`` is None for a failure, ``failure`` is None for a success.
    """

    suite: str
    index: int
    scenario: str
    side: str
    task: str | None
    instruction: str
    outcome: Outcome
    success: bool
    failure: str | None
    touched: str | None
    num_steps: int
    time_to_goal_s: float | None
    final_error_m: float
    path_length_m: float
    expert_path_length_m: float | None
    command_change_m_s: float


def episode_result(drive: Drive, *, suite: str, index: int, expert_path: NDArray[np.float64] | None) -> EpisodeResult:
    """Return the record of ``drive``; ``expert_path`` [M, 2] are the expert's positions from the same start."""
    is_success = drive.outcome == "success"
    num_steps = len(drive.command)
    changes = np.diff(drive.command[:, :2], axis=0)
    return EpisodeResult(
        suite=suite,
        index=index,
        scenario=drive.state.scene.scenario.name,
        side=drive.state.scene.scenario.side,
        task=drive.state.scene.scenario.task,
        instruction=drive.state.instruction,
        outcome=drive.outcome,
        success=is_success,
        failure=failure_of(drive),
        touched=drive.touched,
        num_steps=num_steps,
        time_to_goal_s=num_steps * STEP_S if is_success else None,
        final_error_m=float(goal_distance_m(drive)[-1]),
        path_length_m=path_length_m(drive.position),
        expert_path_length_m=None if expert_path is None else path_length_m(expert_path),
        command_change_m_s=float(np.hypot(*changes.T).mean()) if len(changes) else 0.0,
    )


def path_length_m(position: NDArray[np.float64]) -> float:
    """Return the length of the path through positions [F, 2]."""
    return float(np.hypot(*np.diff(position, axis=0).T).sum())


def suite_metrics(results: Sequence[EpisodeResult]) -> dict[str, float]:
    """Return rates in [0, 1] and means of one suite's results; the mean of an empty set is left out.

    ``success_low`` and ``success_high`` are the Wilson 95 % confidence interval of the success rate. It covers the
    choice of episodes for this one policy, not the variation between training seeds. ``path_ratio`` (driven length
    divided by the expert's) and ``time_to_goal_s`` are means over successes; ``failure/*`` are shares of all episodes;
    ``success_rate/scenario_mean`` is the mean over scenarios.
    """
    count, successes = len(results), [result for result in results if result.success]
    # Wilson and not the normal approximation, which has zero width at rates of 0 and 1.
    interval = binomtest(len(successes), count).proportion_ci(method="wilson")
    outcomes, failures = Counter(r.outcome for r in results), Counter(r.failure for r in results)
    metrics = {
        "episodes": count,
        "success_rate": len(successes) / count,
        "success_low": float(interval.low),
        "success_high": float(interval.high),
        **{f"{name}_rate": outcomes[name] / count for name in get_args(Outcome) if name != "success"},
        "final_error_m": fmean(result.final_error_m for result in results),
        "command_change_m_s": fmean(result.command_change_m_s for result in results),
        **{f"failure/{name}": failures[name] / count for name in FAILURES},
        **_success_by_part(results),
    }
    if successes:
        metrics["time_to_goal_s"] = fmean(r.time_to_goal_s for r in successes if r.time_to_goal_s is not None)
    if ratios := [r.path_length_m / r.expert_path_length_m for r in successes if r.expert_path_length_m]:
        metrics["path_ratio"] = fmean(ratios)
    return metrics


def _success_by_part(results: Sequence[EpisodeResult]) -> dict[str, float]:
    """Return ``success_rate/<part>`` by scenario (boxes, layout, side, as in val), placement, distance and task.

    The rates by task are left out if there is only one task.
    """
    drives: dict[str, list[bool]] = {}
    has_tasks = len({result.task for result in results}) > 1
    for result in results:
        *scenario, placement, distance = result.scenario.split("_")[:_NUM_PLACE_FIELDS]
        parts = [f"scenario_{'_'.join(scenario)}", f"placement_{placement}", f"distance_{distance}"]
        for part in [*parts, f"task_{result.task}"] if has_tasks else parts:
            drives.setdefault(part, []).append(result.success)
    rates = {name: fmean(successes) for name, successes in sorted(drives.items())}
    rates["scenario_mean"] = fmean(rate for name, rate in rates.items() if name.startswith("scenario_"))
    return {f"success_rate/{name}": rate for name, rate in rates.items()}
