"""``export``: write a policy as a folder to publish, with its model card."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.arguments import AddParser, add_checkpoint_arguments


def add_command(add_parser: AddParser) -> None:
    """Add the command; what it needs is imported when it runs."""
    parser = add_parser("export", help="write a policy as a folder to publish, with its model card")
    add_checkpoint_arguments(parser)
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument(
        "--merge", action="store_true", help="merge the adapter into the pretrained weights, and write all to OUT"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mobile_vla.policy.export.export import Export

    Export(
        source=args.policy,
        out=args.out,
        checkpoint=args.checkpoint,
        merge=args.merge,
        base=args.base,
        trust=args.trust,
    ).run()
    return 0
