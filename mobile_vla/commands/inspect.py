"""``inspect``: report the contents and problems of a folder of episodes, and which samplers can differ on it."""

from __future__ import annotations

import argparse
from pathlib import Path

from mobile_vla.commands.arguments import AddParser
from mobile_vla.errors import ConfigError


def add_command(add_parser: AddParser) -> None:
    """Add the command; what it needs is imported when it runs."""
    parser = add_parser("inspect", help="contents and problems of a folder of episodes, and what it can show")
    parser.add_argument("path", type=Path, help="folder of HDF5 episodes")
    parser.add_argument(
        "overrides",
        nargs="*",
        help="config overrides, such as dataset.padding=none or dataset.actions=[linear_x,angular_z]",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mobile_vla.config import check_config, compose_config
    from mobile_vla.data.dataset import summarise_problems
    from mobile_vla.evaluation.data_report import data_report_of, print_data_report, print_warnings
    from mobile_vla.process.console import new_console
    from mobile_vla.run.build import build_dataset
    from mobile_vla.sampler_report.shipped import warn_of_samplers
    from mobile_vla.streams import Stream

    if any(override.startswith("dataset.path=") for override in args.overrides):
        raise ConfigError(f"dataset.path: is PATH already ({args.path}); leave it out")
    cfg = compose_config(["dataset=h5", "dataset.on_bad_episode=skip", *args.overrides])
    cfg.dataset.path = str(args.path)  # not as an override, where quotes and brackets have a special meaning
    check_config(cfg)
    dataset = build_dataset(cfg)
    console = new_console()
    scan = dataset.scan()
    if scan.problems:
        console.print(summarise_problems(scan.problems), style="red", highlight=False, markup=False, soft_wrap=True)
    if not scan.episodes:
        return 1
    data = dataset.open(scan)
    report = data_report_of(data)
    print_data_report(report, console)
    stream = Stream(cfg.seed, "sampler")
    of_samplers = warn_of_samplers(data.readers["train"], trainer=cfg.trainer, stream=stream)
    print_warnings([*data.warnings, *report.warnings(), *of_samplers], console)
    return 1 if scan.problems else 0
