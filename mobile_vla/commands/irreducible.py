"""``irreducible``: compute the window scores that ``sampler=rho`` reads."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.arguments import AddParser


def add_command(add_parser: AddParser) -> None:
    """Add the command; what it needs is imported when it runs."""
    parser = add_parser(
        "irreducible", help="the loss of every train window under models that have not seen its episode (sampler=rho)"
    )
    parser.add_argument("out", type=Path, help="window score file to write (.csv or .parquet)")
    parser.add_argument("--folds", type=int, default=2, help="folds of the train episodes (default: %(default)s)")
    about = "of each fold: the last one, or the best one on the windows that it scores (default: %(default)s)"
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help=about)
    parser.add_argument("overrides", nargs="*", help="config overrides, as in training, such as trainer.steps=500")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mobile_vla.window_losses.irreducible import Irreducible

    Irreducible(out=args.out, num_folds=args.folds, checkpoint=args.checkpoint, overrides=args.overrides).run()
    return 0
