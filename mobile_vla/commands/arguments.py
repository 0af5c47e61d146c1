"""The type that all commands share, and the arguments of the commands that load a trained policy."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_vla.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mobile_vla.policy.policy import Policy

AddParser = Callable[..., argparse.ArgumentParser]
"""``add_parser`` of argparse's subparsers.

Each command sets the default ``run``, a function from the parsed arguments to the exit code.
"""


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``overrides``, the arguments that choose recordings: a path, or overrides of the config, or both."""
    parser.add_argument(
        "overrides",
        nargs="+",
        metavar="PATH | OVERRIDE",
        help="the folder or file of the recordings, and config overrides, such as dataset.padding=none; "
        "in place of a path, dataset=NAME for a data set that records itself",
    )


def split_path(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the path, the only argument without ``=`` (or the one that exists), and the overrides."""
    paths = [text for text in arguments if "=" not in text or Path(text).exists()]
    overrides = [text for text in arguments if text not in paths]
    if len(paths) > 1:
        raise ConfigError(f"{', '.join(paths)}: expected one folder or file of recordings")
    if paths and any(override.startswith("dataset.path=") for override in overrides):
        raise ConfigError(f"dataset.path: is PATH already ({paths[0]}); leave it out")
    return (Path(paths[0]) if paths else None), overrides


def data_config(path: Path | None, overrides: Sequence[str], *, defaults: Sequence[str] = ()) -> DictConfig:
    """Return the checked config of the recordings at ``path``; ``overrides`` win over ``defaults``."""
    from mobile_vla.config import check_config, compose_config

    cfg = compose_config([*([] if path is None else ["dataset=auto"]), *defaults, *overrides])
    if path is not None:
        cfg.dataset.path = str(path)  # not as an override, where quotes and brackets have a special meaning
    check_config(cfg)
    return cfg


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``policy``, ``--checkpoint``, ``--base`` and ``--trust``, the arguments that choose the policy to load."""
    about = "a run folder, one of its checkpoints, or an exported policy"
    parser.add_argument("policy", type=Path, metavar="RUN", help=about)
    about = "of a run: the newest undamaged checkpoint or the best one (default: %(default)s)"
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help=about)
    about = "pretrained weights that it was trained on: a folder or a hub name (default: as stored in it)"
    parser.add_argument("--base", help=about)
    about = "full name of a class of your own that the run's files may name; may be given several times"
    parser.add_argument("--trust", action="append", default=[], metavar="CLASS", help=about)


def add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``add_checkpoint_arguments``, and ``--device`` to run the policy on."""
    add_checkpoint_arguments(parser)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")


def load_policy(args: argparse.Namespace) -> Policy:
    """Return the policy that the arguments of ``add_policy_arguments`` choose; ``UserError`` if it cannot be loaded."""
    import torch

    from mobile_vla.policy.policy import Policy

    torch.set_num_threads(1)  # as in training: another number rounds differently, and the difference grows in a drive
    return Policy.load(args.policy, checkpoint=args.checkpoint, device=args.device, base=args.base, trust=args.trust)
