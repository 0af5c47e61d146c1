"""``inspect``: report the contents and problems of recordings, what they can show, and a first comparison."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_vla.commands.arguments import AddParser, add_data_arguments, data_config, split_path
from mobile_vla.errors import ConfigError
from mobile_vla.process.typed_commands import override

if TYPE_CHECKING:
    from rich.console import Console

    from mobile_vla.inspection.page.page import Inspected


def add_command(add_parser: AddParser) -> None:
    """Add the command; what it needs is imported when it runs."""
    parser = add_parser("inspect", help="contents and problems of recordings in any format, and what they can show")
    add_data_arguments(parser)
    parser.add_argument(
        "--pixels", action="store_true", help="also decode every frame, as a run does before it trains, and check it"
    )
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="also write a page with pictures: contact sheet, episodes to play with their signals, what is odd",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mobile_vla.data.findings.problems import summarise_problems
    from mobile_vla.evaluation.data_report import data_report_of, print_data_report, print_warnings
    from mobile_vla.inspection.contents import contents_of
    from mobile_vla.inspection.first_comparison import samplers_worth_trying
    from mobile_vla.inspection.page.page import Inspected
    from mobile_vla.inspection.terminal import print_choices, print_contents, print_first_comparison
    from mobile_vla.inspection.time_estimate import estimate_time
    from mobile_vla.inspection.two_valued import two_valued
    from mobile_vla.installation import TRAIN
    from mobile_vla.process.console import new_console
    from mobile_vla.run.build import build_dataset
    from mobile_vla.sampler_report.shipped import warn_of_samplers
    from mobile_vla.streams import Stream

    path, overrides = split_path(args.overrides)
    if args.html is not None:
        _check_page(args.html)
    cfg = data_config(path, overrides, defaults=["dataset.on_bad_episode=skip"])
    dataset = build_dataset(cfg)
    console = new_console()
    scan = dataset.scan()
    if not scan.episodes:
        _print_problems(summarise_problems(scan.problems), console)
        return 1
    contents = contents_of(scan, scan.episodes)
    print_contents(contents, console)
    data = dataset.open(scan, with_pixels=args.pixels)
    if dataset.looks_at_frames:  # only now the scenarios are known
        contents = contents_of(scan, list(data.episodes.values()))
    if data.problems:
        _print_problems(summarise_problems(data.problems), console)
    report = data_report_of(data)
    print_data_report(report, console)
    print_choices(contents.choices, console)
    stream = Stream(cfg.seed, "sampler")
    of_samplers = warn_of_samplers(data.readers["train"], trainer=cfg.trainer, stream=stream)
    warnings = [*data.warnings, *two_valued(contents), *report.warnings(), *of_samplers]
    print_warnings(warnings, console)
    print_first_comparison(
        samplers_worth_trying(data, cfg),
        estimate_time(cfg, dataset, scan, data),
        command=[*TRAIN.split(), *_first_comparison(path, overrides, skips=bool(data.problems))],
        console=console,
    )
    if args.html is not None:
        title = dataset.folder().resolve().name
        _write_page(
            Inspected(
                title=title,
                dataset=dataset,
                scan=scan,
                data=data,
                contents=contents,
                report=report,
                warnings=warnings,
            ),
            args.html,
            console,
        )
    return 1 if data.problems else 0


def _check_page(path: Path) -> None:
    """Raise ``ConfigError`` for a place where no page can be written, before anything is read."""
    if path.is_dir():
        raise ConfigError(f"--html {path}: is a folder. Give the file to write, such as {path / 'data.html'}.")
    if not path.parent.is_dir():
        raise ConfigError(f"--html {path}: the folder {path.parent} does not exist. Make it, or give another place.")
    if path.suffix.lower() not in (".html", ".htm"):
        # It would be overwritten: `inspect --html DIR/episode.h5` is most likely a forgotten name.
        raise ConfigError(f"--html {path}: expected a name that ends in .html.")


def _write_page(inspected: Inspected, path: Path, console: Console) -> None:
    from mobile_vla.inspection.page.page import write_data_page
    from mobile_vla.text import sizes

    write_data_page(inspected, path)
    [size] = sizes(path.stat().st_size)
    console.print(f"Data page: {path} ({size})", highlight=False, markup=False, soft_wrap=True)


def _first_comparison(path: Path | None, overrides: Sequence[str], *, skips: bool) -> list[str]:
    given = [text for text in overrides if not text.startswith("dataset.on_bad_episode")]
    return [
        "experiment=my_data",
        *([] if path is None else [override("dataset.path", str(path))]),
        *given,
        *(["dataset.on_bad_episode=skip"] if skips else []),
    ]


def _print_problems(text: str, console) -> None:
    # Not in lines of the terminal's width: a path with spaces would be broken, and could not be copied.
    console.print(text, style="red", highlight=False, markup=False, soft_wrap=True)
