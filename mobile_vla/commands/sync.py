"""``sync``: upload the rows of recorded runs that W&B has not confirmed."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.arguments import AddParser


def add_command(add_parser: AddParser) -> None:
    """Add the command; what it needs is imported when it runs."""
    parser = add_parser("sync", help="upload the rows of recorded runs that W&B has not confirmed")
    parser.add_argument("folder", type=Path, help="folder to search, with everything below it")
    parser.add_argument(
        "--timeout", type=float, default=300.0, metavar="SECONDS", help="time limit for each run (default: %(default)g)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mobile_vla.process.console import new_console
    from mobile_vla.tracking.wandb.sync import sync_folder

    return 1 if sync_folder(args.folder, new_console(), timeout_s=args.timeout) else 0
