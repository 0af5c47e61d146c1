"""Closed-loop evaluation: roll out every suite, with one record per drive, rates per suite, and some videos."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import NonNegativeInt, PositiveInt

from mobile_vla.closed_loop.drivers import expert_paths
from mobile_vla.closed_loop.execution import Execution
from mobile_vla.closed_loop.results import EpisodeResult, episode_result, suite_metrics
from mobile_vla.closed_loop.rollout import Driver, command_columns, roll_out
from mobile_vla.closed_loop.suite import Suite, digest
from mobile_vla.closed_loop.trained_scenarios import TrainedScenarios
from mobile_vla.closed_loop.video import pick_videos, write_video
from mobile_vla.errors import ConfigError
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.spec import Spec
from mobile_vla.storage.disk import write_atomically

if TYPE_CHECKING:
    from mobile_vla.sim.environment import BottleEnv

RESULTS_FILE = "episode_results.jsonl"


@dataclass(frozen=True, kw_only=True)
class Driven:
    """The measurements: a record of every drive, flat ``metrics`` under ``closed_loop/<suite>/...``, and the videos.

    Videos are named ``<suite>/success_1``, ``<suite>/failure_1`` and so on.
    """

    results: list[EpisodeResult]
    metrics: dict[str, float | str]
    videos: dict[str, Path]


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """The options of the closed-loop evaluation; see conf/closed_loop/none.yaml for each option."""

    suites: Mapping[str, Suite]
    episodes: PositiveInt
    execution: Execution
    max_steps: PositiveInt
    videos: NonNegativeInt

    def check(self, trained: TrainedScenarios, *, spec: Spec, fwd_pred_next_n: int) -> None:
        """Raise ``UserError`` if a policy with the inputs and actions of ``spec`` cannot be driven in every suite."""
        # Done before training, as the errors would otherwise appear only after it. Drawing all states is quick.
        self.execution.begin(fwd_pred_next_n=fwd_pred_next_n)
        _check_inputs(spec)
        for suite in self.suites.values():
            command_columns(spec.action_names, self._env(suite, trained))
            suite.states(self.episodes, trained)

    def measure(
        self,
        make_driver: Callable[[Sequence[InitialState]], Driver],
        trained: TrainedScenarios,
        video_folder: Path,
    ) -> Driven:
        """Roll out every suite, and write videos of some drives into ``video_folder``.

        The result depends only on the driver, the options and the scenarios: all policies start from the same states.
        """
        driven = Driven(results=[], metrics={}, videos={})
        for name, suite in self.suites.items():
            states = suite.states(self.episodes, trained)
            make_env = partial(self._env, suite, trained)
            drives = roll_out(make_driver(states), states, execution=self.execution, make_env=make_env)
            paths = expert_paths(states)
            results = [
                episode_result(drive, suite=name, index=index, expert_path=path)
                for index, (drive, path) in enumerate(zip(drives, paths, strict=True))
            ]
            metrics = {**suite_metrics(results), "states": digest(states, suite, max_steps=self.max_steps)}
            driven.results.extend(results)
            driven.metrics.update({f"closed_loop/{name}/{key}": value for key, value in metrics.items()})
            for kind, index in pick_videos(results, count=self.videos).items():
                path = video_folder / f"{name}-{index}-{results[index].failure or 'success'}.gif"
                write_video(path, drives[index], expert_path=paths[index], make_env=make_env, title=f"{name} {index}")
                driven.videos[f"{name}/{kind}"] = path
        return driven

    def _env(self, suite: Suite, trained: TrainedScenarios) -> BottleEnv:
        from mobile_vla.sim.environment import BottleEnv  # here: runs that drive nothing need no MuJoCo

        return BottleEnv(image_size=trained.image_size, max_steps=self.max_steps, mjcf=suite.mjcf)


def _check_inputs(spec: Spec) -> None:
    if spec.state:
        raise ConfigError(
            f"model.state: the policy gets {', '.join(spec.state_names)}, and the embedded world measures no state. "
            "Train with model.state=none, or leave the closed loop out (closed_loop=none)."
        )
    if len(spec.cameras) > 1:
        raise ConfigError(
            f"dataset.cameras: the policy sees {', '.join(spec.camera_names)}, and the embedded world has one camera. "
            "Train with one, or leave the closed loop out (closed_loop=none)."
        )


def write_results(results: Sequence[EpisodeResult], path: Path) -> None:
    """Write one line per drive, a JSON object."""
    write_atomically(path, "".join(f"{json.dumps(asdict(result))}\n" for result in results))
