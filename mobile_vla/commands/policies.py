"""Offer what is done with a trained policy: let it drive, serve it, publish it, ask it for losses."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_vla.commands.add_parser import AddParser

if TYPE_CHECKING:
    from mobile_vla.policy.policy import Policy

_DRIVERS = ("policy", "no_instruction", "expert", "chance")  # of commands/rollout.py, which imports torch


def add_commands(add_parser: AddParser) -> None:
    """Add them; what a command needs is imported when it runs."""
    _add_rollout(add_parser)
    _add_serve(add_parser)
    _add_export(add_parser)
    _add_losses(add_parser)


def _add_rollout(add_parser: AddParser) -> None:
    parser = add_parser("rollout", help="let a trained policy drive in the embedded world")
    _add_policy_arguments(parser)
    about = (
        "option of conf/closed_loop/suite, or a YAML file of what differs from seen; may be given again (default: all)"
    )
    parser.add_argument("--suite", action="append", default=[], help=about)
    parser.add_argument("--episodes", type=int, help="initial states of each suite (default: closed_loop.episodes)")
    about = "who drives: the policy, the policy with empty instructions, the data's expert, or chance"
    parser.add_argument("--driver", choices=_DRIVERS, default=_DRIVERS[0], help=about)
    about = "new folder for episode_results.jsonl, summary.json and videos (default: one in RUN/rollouts)"
    parser.add_argument("--out", type=Path, help=about)
    about = "config overrides, such as closed_loop.execution.count=4 or closed_loop/execution=temporal_ensemble"
    parser.add_argument("overrides", nargs="*", help=about)
    parser.set_defaults(run=_rollout)


def _rollout(args: argparse.Namespace) -> int:
    from mobile_vla.commands.rollout import Rollout

    Rollout(
        policy=_load_policy(args),
        driver=args.driver,
        suites=args.suite,
        episodes=args.episodes,
        overrides=args.overrides,
        trust=args.trust,
        out=args.out,
    ).run()
    return 0


def _add_serve(add_parser: AddParser) -> None:
    about = "answer robots over a websocket: observation in, chunk of actions out"
    parser = add_parser("serve", help=about, allow_abbrev=False)  # --token VALUE must not pass for --token-file
    _add_policy_arguments(parser)
    about = "to listen on; 0.0.0.0: all. Needs a token where other machines reach it (default: %(default)s)"
    parser.add_argument("--host", default="127.0.0.1", help=about)
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    about = "what robots must show is in this file (default: in the environment's MOBILE_VLA_TOKEN)"
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=about)
    parser.set_defaults(run=_serve)


def _serve(args: argparse.Namespace) -> int:
    from mobile_vla.serving.access import check_access, read_token
    from mobile_vla.serving.server import serve

    token = read_token(args.token_file)
    check_access(host=args.host, token=token)  # before the policy is loaded, which may take minutes
    serve(_load_policy(args), host=args.host, port=args.port, token=token)
    return 0


def _add_export(add_parser: AddParser) -> None:
    parser = add_parser("export", help="write a policy as a folder to publish, with its model card")
    _add_checkpoint_arguments(parser)
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument(
        "--merge", action="store_true", help="merge the adapter into the pretrained weights, whole in OUT"
    )
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    from mobile_vla.commands.export import Export

    Export(
        source=args.policy,
        out=args.out,
        checkpoint=args.checkpoint,
        merge=args.merge,
        base=args.base,
        trust=args.trust,
    ).run()
    return 0


def _add_losses(add_parser: AddParser) -> None:
    parser = add_parser("losses", help="the loss of every train window under a trained run, as a score file")
    _add_policy_arguments(parser)
    parser.add_argument("out", type=Path, help="window score file to write (.csv or .parquet)")
    parser.set_defaults(run=_losses)


def _losses(args: argparse.Namespace) -> int:
    from mobile_vla.window_losses.trained_run import RunLosses

    RunLosses(
        source=args.policy,
        out=args.out,
        checkpoint=args.checkpoint,
        device=args.device,
        base=args.base,
        trust=args.trust,
    ).run()
    return 0


def _add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    _add_checkpoint_arguments(parser)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")


def _add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    about = "a run folder, one of its checkpoints, or an exported policy"
    parser.add_argument("policy", type=Path, metavar="RUN", help=about)
    about = "of a run: the newest of this kind that is whole (default: %(default)s)"
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help=about)
    about = "where the pretrained weights lie that it was trained on: a folder or a hub name (default: where it says)"
    parser.add_argument("--base", help=about)
    about = "full name of a class of your own that the run's files may name; may be given again"
    parser.add_argument("--trust", action="append", default=[], metavar="CLASS", help=about)


def _load_policy(args: argparse.Namespace) -> Policy:
    import torch

    from mobile_vla.policy.policy import Policy

    torch.set_num_threads(1)  # as in training: another number rounds differently, and a drive amplifies it
    return Policy.load(args.policy, checkpoint=args.checkpoint, device=args.device, base=args.base, trust=args.trust)
