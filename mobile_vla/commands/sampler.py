"""``sampler``: what a sampler draws, without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.arguments import AddParser


def add_command(add_parser: AddParser) -> None:
    """Add the command; what it needs is imported when it runs."""
    parser = add_parser("sampler", help="what a sampler draws, without training: tables and a picture")
    parser.add_argument("name", metavar="NAME", help="option of the config group sampler, such as stratified")
    parser.add_argument("--dataset", metavar="NAME", help="the same as the override dataset=NAME")
    parser.add_argument("--steps", type=int, help="number of steps to draw (default: those of a run)")
    about = "run folder; the sampler gets the losses of its last checkpoint (default: all losses are equal)"
    parser.add_argument("--scores", type=Path, metavar="RUN", help=about)
    parser.add_argument("--out", type=Path, help="folder for the picture (default: one in outputs/samplers)")
    parser.add_argument("overrides", nargs="*", help="config overrides, as in training, such as sampler.tau=4")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mobile_vla.sampler_report.report import SamplerReport

    overrides = [*([f"dataset={args.dataset}"] if args.dataset else []), *args.overrides]
    SamplerReport(name=args.name, overrides=overrides, steps=args.steps, scores=args.scores, out=args.out).run()
    return 0
