"""``rollout``: drive with a trained policy in the embedded world."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.arguments import AddParser, add_policy_arguments, load_policy

_DRIVERS = ("policy", "no_instruction", "expert", "chance")  # copied from run/rollout.py, which imports torch


def add_command(add_parser: AddParser) -> None:
    """Add the command; what it needs is imported when it runs."""
    parser = add_parser("rollout", help="drive with a trained policy in the embedded world")
    add_policy_arguments(parser)
    about = (
        "option of conf/closed_loop/suite, or a YAML file with what differs from seen; may be given several times "
        "(default: all)"
    )
    parser.add_argument("--suite", action="append", default=[], help=about)
    parser.add_argument("--episodes", type=int, help="initial states of each suite (default: closed_loop.episodes)")
    about = "driver: the policy, the policy with empty instructions, the data's expert, or random actions"
    parser.add_argument("--driver", choices=_DRIVERS, default=_DRIVERS[0], help=about)
    about = "new folder for episode_results.jsonl, summary.json and videos (default: one in RUN/rollouts)"
    parser.add_argument("--out", type=Path, help=about)
    about = "config overrides, such as closed_loop.execution.count=4 or closed_loop/execution=temporal_ensemble"
    parser.add_argument("overrides", nargs="*", help=about)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mobile_vla.run.rollout import Rollout

    Rollout(
        policy=load_policy(args),
        driver=args.driver,
        suites=args.suite,
        episodes=args.episodes,
        overrides=args.overrides,
        trust=args.trust,
        out=args.out,
    ).run()
    return 0
