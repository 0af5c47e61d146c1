"""``dashboard``: a W&B workspace and report of a folder of runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.arguments import AddParser


def add_command(add_parser: AddParser) -> None:
    """Add the command; what it needs is imported when it runs."""
    parser = add_parser("dashboard", help="a W&B workspace and report of a multirun folder, as code")
    parser.add_argument("folder", type=Path, help="a multirun folder, or any folder of run folders")
    parser.add_argument("--baseline", help="label that the others are compared with (default: the study's)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mobile_vla.compare.dashboard.publish import publish_dashboard
    from mobile_vla.process.console import new_console

    publish_dashboard(args.folder, baseline=args.baseline, console=new_console())
    return 0
