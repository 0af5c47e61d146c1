"""``losses``: compute the loss of every train window with a trained policy."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.arguments import AddParser, add_policy_arguments


def add_command(add_parser: AddParser) -> None:
    """Add the command; what it needs is imported when it runs."""
    parser = add_parser("losses", help="the loss of every train window with a trained policy, as a score file")
    add_policy_arguments(parser)
    parser.add_argument("out", type=Path, help="window score file to write (.csv or .parquet)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
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
