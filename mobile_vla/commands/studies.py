"""Offer what is done with a folder of runs: compare them, and take them to W&B."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.add_parser import AddParser
from mobile_vla.terminal import new_console


def add_commands(add_parser: AddParser) -> None:
    """Add them; what a command needs is imported when it runs."""
    _add_compare(add_parser)
    _add_dashboard(add_parser)
    _add_sync(add_parser)


def _add_compare(add_parser: AddParser) -> None:
    parser = add_parser("compare", help="the comparison table of a multirun folder")
    parser.add_argument("folder", type=Path, help="a multirun folder, or any folder of run folders")
    parser.add_argument("--baseline", help="label the others are held against (default: the study's)")
    parser.add_argument(
        "--change-table",
        action="store_true",
        help="also each metric at the first evaluation after step 0, at the last, and its change",
    )
    parser.set_defaults(run=_compare)


def _compare(args: argparse.Namespace) -> int:
    from mobile_vla.compare.change_table import report_change_table
    from mobile_vla.compare.report import compare_folder

    console = new_console()
    comparison = compare_folder(args.folder, baseline=args.baseline, console=console)
    if args.change_table:
        report_change_table(args.folder, console)
    return 1 if comparison.unfinished or comparison.baseline_row is None else 0


def _add_dashboard(add_parser: AddParser) -> None:
    parser = add_parser("dashboard", help="a W&B workspace and report of a multirun folder, as code")
    parser.add_argument("folder", type=Path, help="a multirun folder, or any folder of run folders")
    parser.add_argument("--baseline", help="label the others are held against (default: the study's)")
    parser.set_defaults(run=_dashboard)


def _dashboard(args: argparse.Namespace) -> int:
    from mobile_vla.compare.dashboard.publish import publish_dashboard

    publish_dashboard(args.folder, baseline=args.baseline, console=new_console())
    return 0


def _add_sync(add_parser: AddParser) -> None:
    parser = add_parser("sync", help="send to W&B what it has not confirmed of the recorded runs")
    parser.add_argument("folder", type=Path, help="everything below it is looked through")
    parser.add_argument(
        "--timeout", type=float, default=300.0, metavar="SECONDS", help="that one run may take (default: %(default)g)"
    )
    parser.set_defaults(run=_sync)


def _sync(args: argparse.Namespace) -> int:
    from mobile_vla.tracking.sync import sync_folder

    return 1 if sync_folder(args.folder, new_console(), timeout_s=args.timeout) else 0
