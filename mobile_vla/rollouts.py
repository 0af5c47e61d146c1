"""Let a checkpoint, or a reference driver in its place, drive suites: what ``python -m mobile_vla rollout`` does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from mobile_vla.build import CONF, build_closed_loop, check_config, compose_config
from mobile_vla.closed_loop.drivers import Chance, Expert, Unread, expert_actions
from mobile_vla.closed_loop.evaluation import RESULTS_FILE
from mobile_vla.closed_loop.rollout import Driver
from mobile_vla.closed_loop.suite_table import print_suites
from mobile_vla.closed_loop.world import World
from mobile_vla.errors import ConfigError
from mobile_vla.policy.policy import Policy
from mobile_vla.sim.initial_state import InitialState
from mobile_vla.tracking.run_folder import write_atomically

SUMMARY_FILE = "summary.json"
_SUITES = CONF / "closed_loop" / "suite"


def roll_out_run(
    folder: Path,
    *,
    checkpoint: str,
    device: str,
    suites: Sequence[str],
    episodes: int | None,
    driver_name: str,
    out: Path | None,
    overrides: Sequence[str],
) -> None:
    """Roll out, print the rates, and write ``episode_results.jsonl``, ``summary.json`` and ``videos/`` into ``out``.

    The run's own files stay as they are. Raises ``UserError`` where there is no policy, no world or no such suite.
    """
    console = Console()
    policy = Policy.load(folder, checkpoint=checkpoint, device=device)
    world = World.from_description(policy.description)
    cfg = compose_config(overrides)
    if suites:
        cfg.closed_loop.suites = {Path(name).stem: _suite(cfg, name) for name in suites}
    if episodes is not None:
        cfg.closed_loop.episodes = episodes
    check_config(cfg, overrides=overrides)
    closed_loop = build_closed_loop(cfg.closed_loop)
    out = out or folder / "rollouts" / f"{checkpoint}-{driver_name}"
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    driven = closed_loop.measure(_driver_maker(driver_name, policy), world, out)
    print_suites(driven.metrics, console)
    count = closed_loop.episodes * len(closed_loop.suites)
    console.print(f"{count} drives in {time.perf_counter() - started:.1f} s")
    write_atomically(out / SUMMARY_FILE, json.dumps(driven.metrics, indent=1) + "\n")
    for path in (out / RESULTS_FILE, out / SUMMARY_FILE, *driven.videos.values()):
        console.print(str(path), style="dim", markup=False, highlight=False, soft_wrap=True)


def _driver_maker(name: str, policy: Policy) -> Callable[[Sequence[InitialState]], Driver]:
    makers: dict[str, Callable[[Sequence[InitialState]], Driver]] = {
        "policy": lambda _: policy,
        "no_instruction": lambda _: Unread(policy),
        "expert": lambda states: Expert(expert_actions(states)),
        "chance": lambda _: Chance(seed=0),
    }
    return makers[name]


def _suite(cfg: DictConfig, name: str) -> DictConfig:
    """Return the suite of that name, or what differs from suite ``seen`` in a YAML file of the user's."""
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
    with open_dict(seen):  # an unknown key is named by the check of the whole config
        suite = OmegaConf.merge(seen, OmegaConf.load(name))
    assert isinstance(suite, DictConfig)
    return suite
