"""``export-data``: write recordings of any format as a LeRobot data set or as HDF5 files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from mobile_vla.commands.arguments import AddParser, add_data_arguments, data_config, split_path
from mobile_vla.errors import ConfigError
from mobile_vla.installation import PROGRAM
from mobile_vla.process.console import printable

_OF_ALL = ("dataset.actions", "dataset.cameras", "model.state")
"""Options that choose what a policy gets; an export has everything."""


def add_command(add_parser: AddParser) -> None:
    """Add the command; what it needs is imported when it runs."""
    parser = add_parser("export-data", help="write recordings of any format as a LeRobot data set or as HDF5 files")
    add_data_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not hold files")
    parser.add_argument(
        "--format",
        choices=("lerobot", "hdf5"),
        required=True,
        help="lerobot: a LeRobot v3.0 data set; hdf5: one file an episode, in the flat layout",
    )
    parser.add_argument(
        "--video",
        action="store_true",
        help="with lerobot: images as H.264 videos, which are small and lossy (default: PNG, without a loss)",
    )
    parser.add_argument("--fps", type=float, help="frames a second (default: as recorded)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mobile_vla.data.exporters.export import ExportFormat, export_data
    from mobile_vla.run.build import build_dataset

    assert args.format in get_args(ExportFormat)
    path, overrides = split_path(args.overrides)
    if useless := [text for text in overrides if text.lstrip("+").split("=")[0] in _OF_ALL]:
        raise ConfigError(
            f"{useless[0]}: has no effect, as all recorded signals and cameras are exported. Leave it out."
        )
    if args.fps is not None and not 0 < args.fps < 1e6:
        raise ConfigError(f"--fps {args.fps}: expected a number of frames a second, such as 10")
    dataset = build_dataset(data_config(path, overrides))
    report = export_data(dataset, args.out, format=args.format, is_video=args.video, rate_hz=args.fps)
    print(printable(str(report)))
    print(f"next: {PROGRAM} inspect {args.out}")
    return 0
