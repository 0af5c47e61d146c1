"""``import``: convert recordings of another tool to episodes."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.arguments import AddParser
from mobile_vla.data.importers.flags import add_flags, options_from
from mobile_vla.data.importers.written_text import WrittenText
from mobile_vla.data.sources.tubs.split import TubOptions
from mobile_vla.installation import TRAIN
from mobile_vla.process.console import printable


def add_command(add_parser: AddParser) -> None:
    """Add the command with a subcommand for each source; the imports of a source are done when it runs."""
    importing = add_parser("import", help="convert recordings of another tool to episodes")
    sources = importing.add_subparsers(required=True, metavar="SOURCE")
    parser = sources.add_parser("donkeycar", help="a DonkeyCar tub")
    parser.add_argument("tub", type=Path, help="folder with manifest.json")
    parser.add_argument("out", type=Path, help="folder to write the episodes to; must not hold files")
    add_flags(parser, TubOptions)
    add_flags(parser, WrittenText)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mobile_vla.data.importers.donkeycar import import_tub

    options, text = options_from(args, TubOptions), options_from(args, WrittenText)
    print(printable(str(import_tub(args.tub, args.out, options, text=text))))
    print(f"next: {TRAIN} dataset=donkeycar dataset.path={args.out}")
    return 0
