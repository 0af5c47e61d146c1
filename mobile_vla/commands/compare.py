"""``compare``: the table, the report page and the files of a folder of runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.arguments import AddParser


def add_command(add_parser: AddParser) -> None:
    """Add the command; what it needs is imported when it runs."""
    parser = add_parser("compare", help="the comparison table of a multirun folder")
    parser.add_argument("folder", type=Path, help="a multirun folder, or any folder of run folders")
    parser.add_argument("--baseline", help="label that the others are compared with (default: the study's)")
    parser.add_argument(
        "--first-vs-last",
        action="store_true",
        help="also print each metric at the first evaluation after step 0, at the last one, and its change",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mobile_vla.compare.report import compare_folder
    from mobile_vla.compare.terminal.first_vs_last import report_first_vs_last
    from mobile_vla.process.console import new_console

    console = new_console()
    comparison = compare_folder(args.folder, baseline=args.baseline, console=console)
    if args.first_vs_last:
        report_first_vs_last(args.folder, console)
    has_baseline = comparison.is_by_setting or comparison.baseline_row is not None
    return 1 if comparison.unfinished or not has_baseline else 0
