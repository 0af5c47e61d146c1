"""The command line ``mobile-vla COMMAND``; in a checkout it is ``python -m mobile_vla COMMAND``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mobile_vla import __version__
from mobile_vla.commands import (
    compare,
    dashboard,
    export,
    export_data,
    import_recordings,
    inspect,
    irreducible,
    losses,
    rollout,
    sampler,
    serve,
    sync,
)
from mobile_vla.errors import UserError
from mobile_vla.extras import missing_extra
from mobile_vla.installation import PROGRAM, TRAIN
from mobile_vla.process.console import printable
from mobile_vla.process.world_size import check_alone
from mobile_vla.storage.disk import unwritable_errors

_COMMANDS = (
    inspect,
    import_recordings,
    export_data,
    sampler,
    compare,
    dashboard,
    sync,
    rollout,
    serve,
    export,
    losses,
    irreducible,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a ``UserError`` is printed as a plain message on stderr, with exit code 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] == "train":  # Hydra parses its options
        train(arguments[1:])
        return
    parser = _parser()
    args, others = parser.parse_known_args(arguments)
    # Overrides may also come after options: argparse does not accept the rest of ``overrides`` there.
    if others and (not hasattr(args, "overrides") or any(other.startswith("-") for other in others)):
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    args.overrides = [*getattr(args, "overrides", []), *others]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with _plain_errors(), unwritable_errors(Path.cwd()):
        sys.exit(args.run(args))


def train(arguments: Sequence[str]) -> None:
    """Run ``train`` with Hydra's own command line ``arguments``."""
    check_alone()
    from mobile_vla.commands import train as command  # here, as Hydra takes a moment that the others need not wait

    with _plain_errors():
        command.check_sweeper(arguments)
    sys.argv[1:] = arguments
    command.main()


@contextmanager
def _plain_errors() -> Iterator[None]:
    """End the process with the message alone at an error for the user, and where an optional package is missing."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {printable(str(error))}")
    except ImportError as error:
        if (missing := missing_extra(error)) is None:
            raise
        sys.exit(f"error: {missing}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Compare ways of sampling training windows.")
    parser.add_argument("--version", action="version", version=f"mobile_vla {__version__}")
    add_parser = parser.add_subparsers(required=True, metavar="COMMAND").add_parser
    add_parser("train", add_help=False, help=f"train a policy, or sweep samplers with -m: the same as {TRAIN}")
    for command in _COMMANDS:
        command.add_command(add_parser)
    return parser
