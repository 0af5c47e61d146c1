"""Offer what is done for a sampler: see what it draws, and make the scores that one of them reads."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.add_parser import AddParser


def add_commands(add_parser: AddParser) -> None:
    """Add them; what a command needs is imported when it runs."""
    _add_sampler(add_parser)
    _add_irreducible(add_parser)


def _add_sampler(add_parser: AddParser) -> None:
    parser = add_parser("sampler", help="what a sampler draws, without training: tables and a picture")
    parser.add_argument("name", metavar="NAME", help="option of the config group sampler, such as stratified")
    parser.add_argument("--dataset", metavar="NAME", help="the same as the override dataset=NAME")
    parser.add_argument("--steps", type=int, help="of the budget (default: those of a run)")
    about = "run folder whose losses the sampler is shown, as they stand in its last checkpoint (default: all equal)"
    parser.add_argument("--scores", type=Path, metavar="RUN", help=about)
    parser.add_argument("--out", type=Path, help="folder for the picture (default: one in outputs/samplers)")
    parser.add_argument("overrides", nargs="*", help="config overrides, as of run.py, such as sampler.tau=4")
    parser.set_defaults(run=_sampler)


def _sampler(args: argparse.Namespace) -> int:
    from mobile_vla.sampler_report.command import SamplerReport

    overrides = [*([f"dataset={args.dataset}"] if args.dataset else []), *args.overrides]
    SamplerReport(name=args.name, overrides=overrides, steps=args.steps, scores=args.scores, out=args.out).run()
    return 0


def _add_irreducible(add_parser: AddParser) -> None:
    parser = add_parser(
        "irreducible", help="the loss of every train window under models that have not seen its episode (sampler=rho)"
    )
    parser.add_argument("out", type=Path, help="window score file to write (.csv or .parquet)")
    parser.add_argument("--folds", type=int, default=2, help="of the train episodes (default: %(default)s)")
    about = "which of each fold's: the last, or the one that predicts the windows it scores best (default: %(default)s)"
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help=about)
    parser.add_argument("overrides", nargs="*", help="config overrides, as of run.py, such as trainer.steps=500")
    parser.set_defaults(run=_irreducible)


def _irreducible(args: argparse.Namespace) -> int:
    from mobile_vla.window_losses.irreducible import Irreducible

    Irreducible(out=args.out, num_folds=args.folds, checkpoint=args.checkpoint, overrides=args.overrides).run()
    return 0
