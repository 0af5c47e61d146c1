"""Closed-loop evaluation of a checkpoint or a reference driver: the command ``python -m mobile_vla rollout``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mobile_vla.closed_loop.drivers import Chance, Expert, WithoutInstruction, expert_actions
from mobile_vla.closed_loop.evaluation import RESULTS_FILE, write_results
from mobile_vla.closed_loop.rollout import Driver
from mobile_vla.closed_loop.suite_table import print_suites
from mobile_vla.closed_loop.trained_scenarios import TrainedScenarios
from mobile_vla.config import check_config, compose_config
from mobile_vla.errors import ConfigError
from mobile_vla.installation import CONF
from mobile_vla.policy.policy import Policy
from mobile_vla.process.console import new_console
from mobile_vla.run.build import build_closed_loop
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.storage.disk import storage_errors, write_atomically
from mobile_vla.tracking.provenance import code_commit
from mobile_vla.untrusted.files import inside
from mobile_vla.untrusted.stored_config import config_in, plain
from mobile_vla.untrusted.targets import check_targets, targets_of

MakeDriver = Callable[[Policy, Sequence[InitialState]], Driver]

DRIVERS: Mapping[str, MakeDriver] = {
    "policy": lambda policy, states: policy,
    "no_instruction": lambda policy, states: WithoutInstruction(policy),
    "expert": lambda policy, states: Expert(expert_actions(states)),
    "chance": lambda policy, states: Chance(seed=0),
}

_SUITES = CONF / "closed_loop" / "suite"
_OWN_OVERRIDES = ("closed_loop.", "closed_loop/", "hydra.searchpath")


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """The arguments of a rollout: ``suites`` by name or YAML file (none: the config's), into the folder ``out``.

    ``trust`` has the names of classes that a suite's file may use in addition to those of the package.
    """

    policy: Policy
    driver: str
    suites: Sequence[str]
    episodes: int | None
    overrides: Sequence[str]
    trust: Sequence[str]
    out: Path | None

    def run(self) -> None:
        """Drive, print the rates, and write ``episode_results.jsonl``, ``summary.json`` and ``videos/``.

        The default is a new folder; the files of the run are not changed. Raises ``UserError`` before the first drive
        if one of the suites cannot be driven.
        """
        console = new_console()
        trained = TrainedScenarios.from_description(self.policy.description.world)
        cfg = self._config()
        closed_loop = build_closed_loop(cfg.closed_loop)
        spec, num_predicted = self.policy.description.spec, self.policy.fwd_pred_next_n
        closed_loop.check(trained, spec=spec, fwd_pred_next_n=num_predicted)
        out = self._out()
        started = time.perf_counter()
        with storage_errors(out, what="the videos"):
            driven = closed_loop.measure(
                lambda states: DRIVERS[self.driver](self.policy, states), trained, video_folder=out / "videos"
            )
        print_suites(driven.metrics, console)
        console.print(f"{len(driven.results)} drives in {time.perf_counter() - started:.1f} s")
        write_results(driven.results, out / RESULTS_FILE)
        asked = {
            "checkpoint": str(self.policy.checkpoint),
            "driver": self.driver,
            "overrides": list(self.overrides),
            "commit": code_commit(),
        }
        write_atomically(out / "summary.json", json.dumps(asked | driven.metrics, indent=1) + "\n")
        console.print(str(out), style="dim", markup=False, highlight=False, soft_wrap=True)

    def _config(self) -> DictConfig:
        if foreign := [o for o in self.overrides if not o.lstrip("+~").startswith(_OWN_OVERRIDES)]:
            raise ConfigError(
                f"{', '.join(foreign)}: has no effect on a rollout; expected options of closed_loop, such as "
                "closed_loop.execution.count=4."
            )
        cfg = compose_config(self.overrides)
        if self.suites:
            suites = {Path(name).stem: _suite(cfg, name, self.trust) for name in self.suites}
            if len(suites) < len(self.suites):
                raise ConfigError(f"--suite {' '.join(self.suites)}: two have one name; expected different ones")
            cfg.closed_loop.suites = suites
        if self.episodes is not None:
            cfg.closed_loop.episodes = self.episodes
        check_config(cfg, overrides=self.overrides)
        return cfg

    def _out(self) -> Path:
        if self.out is None:
            now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
            return _made(inside(self.policy.folder, "rollouts") / f"{now}-{self.driver}")
        if self.out.is_dir() and any(self.out.iterdir()):
            raise ConfigError(f"--out {self.out}: is not empty; give a new folder, so that nothing is overwritten")
        return _made(self.out)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _suite(cfg: DictConfig, name: str, trust: Sequence[str]) -> DictConfig:
    """Return the suite called ``name``; if that is a YAML file of the user, the suite ``seen`` with its changes."""
    shipped = sorted(path.stem for path in _SUITES.glob("*.yaml"))
    if name in cfg.closed_loop.suites:
        return cfg.closed_loop.suites[name]
    if name in shipped:
        return compose_config([f"+closed_loop/suite@closed_loop.suites.{name}={name}"]).closed_loop.suites[name]
    if not Path(name).is_file():
        raise ConfigError(
            f"--suite {name}: no such suite and no such file; expected one of {', '.join(shipped)}, or a YAML file "
            "that holds what differs from conf/closed_loop/suite/seen.yaml."
        )
    seen = compose_config([]).closed_loop.suites.seen
    maps = [key for key, value in seen.items() if isinstance(value, DictConfig)]
    try:
        written = config_in(Path(name))
        if wrong := [key for key in maps if not isinstance(written.get(key, seen[key]), DictConfig)]:
            raise ConfigError(f"{wrong[0]}: {written[wrong[0]]}; expected names and their values")
        check_targets({"closed_loop": plain(written)}, place=name, trust=targets_of(plain(cfg)) | set(trust))
        with open_dict(seen):  # an unknown key is an error in the check of the whole config, which names it
            suite = OmegaConf.merge(seen, written)
    except (OmegaConfBaseException, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"--suite {name}: cannot be read as options of a suite: {error}") from error
    assert isinstance(suite, DictConfig)
    return suite
