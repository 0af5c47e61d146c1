"""Measure how a driver drives: every suite rolled out, one record a drive, rates by suite, some drives as videos."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from mobile_vla.closed_loop.drivers import expert_actions
from mobile_vla.closed_loop.execution import Execution
from mobile_vla.closed_loop.results import episode_result, suite_metrics
from mobile_vla.closed_loop.rollout import Driver, command_columns, roll_out
from mobile_vla.closed_loop.suite import Suite, digest
from mobile_vla.closed_loop.video import pick_videos, write_video
from mobile_vla.closed_loop.world import World
from mobile_vla.sim.environment import BottleEnv
from mobile_vla.sim.expert import positions
from mobile_vla.sim.initial_state import InitialState

RESULTS_FILE = "episode_results.jsonl"
VIDEO_FOLDER = "videos"


@dataclass(frozen=True, kw_only=True)
class Driven:
    """What was measured: flat ``metrics`` under ``closed_loop/<suite>/...``, ``videos`` as ``<suite>/success_1``."""

    metrics: dict[str, float | str] = field(default_factory=dict)
    videos: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """Which suites are driven and how; see conf/closed_loop/default.yaml for each option."""

    suites: Mapping[str, Suite]
    episodes: PositiveInt
    execution: Execution
    max_steps: PositiveInt
    videos: NonNegativeInt

    def check(self, *, action_names: Sequence[str], fwd_pred_next_n: int) -> None:
        """Raise ``UserError`` where policies with these predictions could not be driven in every suite."""
        self.execution.begin(fwd_pred_next_n=fwd_pred_next_n)
        for suite in self.suites.values():
            command_columns(action_names, BottleEnv(mjcf=suite.mjcf))

    def measure(self, make_driver: Callable[[Sequence[InitialState]], Driver], world: World, folder: Path) -> Driven:
        """Roll out every suite; write ``episode_results.jsonl`` and ``videos/`` into ``folder``.

        A pure function of the driver, the options and the scenarios in ``world``: all policies meet the same states.
        """
        driven = Driven()
        with (folder / RESULTS_FILE).open("w") as file:
            for name, suite in self.suites.items():
                states = suite.states(self.episodes, trained=world.trained, held_out=world.held_out)
                make_env = partial(BottleEnv, image_size=world.image_size, max_steps=self.max_steps, mjcf=suite.mjcf)
                drives = roll_out(make_driver(states), states, execution=self.execution, make_env=make_env)
                paths = _expert_paths(states)
                results = [
                    episode_result(drive, suite=name, index=index, expert_path=path)
                    for index, (drive, path) in enumerate(zip(drives, paths, strict=True))
                ]
                file.writelines(f"{json.dumps(asdict(result))}\n" for result in results)
                metrics = {**suite_metrics(results), "states": digest(states, suite, max_steps=self.max_steps)}
                driven.metrics.update({f"closed_loop/{name}/{key}": value for key, value in metrics.items()})
                kinds: Counter[str] = Counter()
                for index in pick_videos(results, count=self.videos):
                    kind = "success" if results[index].success else "failure"
                    kinds[kind] += 1
                    path = folder / VIDEO_FOLDER / f"{name}-{index}-{results[index].failure or kind}.gif"
                    driven.videos[f"{name}/{kind}_{kinds[kind]}"] = path
                    write_video(
                        path,
                        drives[index],
                        expert_path=paths[index],
                        make_env=make_env,
                        title=f"{name} {index}",
                    )
        return driven


def _expert_paths(states: Sequence[InitialState]) -> list[NDArray[np.float64] | None]:
    actions = expert_actions(states)
    return [None if a is None else positions(s.scene, a) for s, a in zip(states, actions, strict=True)]
