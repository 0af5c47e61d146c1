"""Offer what is done with a folder of episodes: inspect it, and make one of another tool's recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.add_parser import AddParser
from mobile_vla.data.importers.flags import add_flags, options_from
from mobile_vla.data.importers.tub_split import TubOptions
from mobile_vla.errors import ConfigError
from mobile_vla.terminal import new_console, printable


def add_commands(add_parser: AddParser) -> None:
    """Add them; what a command needs is imported when it runs."""
    _add_inspect(add_parser)
    _add_import(add_parser)


def _add_inspect(add_parser: AddParser) -> None:
    parser = add_parser("inspect", help="what a folder of episodes holds, what is wrong with it, what it can show")
    parser.add_argument("path", type=Path, help="folder of HDF5 episodes")
    parser.add_argument(
        "overrides",
        nargs="*",
        help="config overrides, such as dataset.padding=none or dataset.actions=[linear_x,angular_z]",
    )
    parser.set_defaults(run=_inspect)


def _inspect(args: argparse.Namespace) -> int:
    from mobile_vla.build import build_dataset
    from mobile_vla.config import check_config, compose_config
    from mobile_vla.data.dataset import summarise_problems
    from mobile_vla.evaluation.evidence import gather_evidence, print_evidence, print_warnings
    from mobile_vla.sampler_report.shipped import warn_of_samplers
    from mobile_vla.streams import Stream

    if any(override.startswith("dataset.path=") for override in args.overrides):
        raise ConfigError(f"dataset.path: is PATH already ({args.path}); leave it out")
    cfg = compose_config(["dataset=h5", "dataset.on_bad_episode=skip", *args.overrides])
    cfg.dataset.path = str(args.path)  # not as an override, whose grammar has its own idea of quotes and brackets
    check_config(cfg)
    dataset = build_dataset(cfg)
    console = new_console()
    scan = dataset.scan()
    if scan.problems:
        console.print(summarise_problems(scan.problems), style="red", highlight=False, markup=False, soft_wrap=True)
    if not scan.episodes:
        return 1
    data = dataset.open(scan)
    evidence = gather_evidence(data)
    print_evidence(evidence, console)
    stream = Stream(cfg.seed, "sampler")
    of_samplers = warn_of_samplers(data.readers["train"], trainer=cfg.trainer, stream=stream)
    print_warnings([*data.warnings, *evidence.warnings(), *of_samplers], console)
    return 1 if scan.problems else 0


def _add_import(add_parser: AddParser) -> None:
    importing = add_parser("import", help="turn recordings of another tool into episodes")
    sources = importing.add_subparsers(required=True, metavar="SOURCE")
    parser = sources.add_parser("donkeycar", help="a DonkeyCar tub")
    parser.add_argument("tub", type=Path, help="folder with manifest.json")
    parser.add_argument("out", type=Path, help="folder to write the episodes to; must not hold files")
    add_flags(parser, TubOptions)
    parser.set_defaults(run=_import_donkeycar)


def _import_donkeycar(args: argparse.Namespace) -> int:
    from mobile_vla.data.importers.donkeycar import import_tub

    print(printable(str(import_tub(args.tub, args.out, options_from(args, TubOptions)))))
    print(f"next: python run.py dataset=donkeycar dataset.path={args.out}")
    return 0
