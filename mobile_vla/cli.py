"""Offer what is not training as ``python -m mobile_vla COMMAND``; its ``--help`` lists the commands."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from mobile_vla import __version__
from mobile_vla.commands import episodes, policies, samplers, studies
from mobile_vla.disk import unwritable_errors
from mobile_vla.errors import UserError
from mobile_vla.terminal import printable


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a ``UserError`` is a plain message on stderr and exit code 1."""
    parser = _parser()
    args, others = parser.parse_known_args(arguments)
    # Overrides may also stand after options, which argparse alone does not take.
    if others and (not hasattr(args, "overrides") or any(other.startswith("-") for other in others)):
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    args.overrides = [*getattr(args, "overrides", []), *others]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with unwritable_errors(Path.cwd()):
            sys.exit(args.run(args))
    except UserError as error:
        sys.exit(f"error: {printable(str(error))}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mobile_vla", description="Everything but training (run.py).")
    parser.add_argument("--version", action="version", version=f"mobile_vla {__version__}")
    add_parser = parser.add_subparsers(required=True, metavar="COMMAND").add_parser
    for module in (episodes, samplers, studies, policies):
        module.add_commands(add_parser)
    return parser
