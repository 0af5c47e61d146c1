"""Offer what is not training as ``python -m mobile_vla COMMAND``; its ``--help`` lists the commands."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mobile_vla.data.importers.flags import add_flags, options_from
from mobile_vla.data.importers.tub_split import TubOptions
from mobile_vla.errors import ConfigError, UserError

if TYPE_CHECKING:
    from mobile_vla.policy.policy import Policy

_DRIVERS = ("policy", "no_instruction", "expert", "chance")  # of rollout_command, which imports torch


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a ``UserError`` is a plain message on stderr and exit code 1."""
    parser = _parser()
    args, others = parser.parse_known_args(arguments)
    # Overrides may also stand after options, which argparse alone does not take.
    if others and (not hasattr(args, "overrides") or any(other.startswith("-") for other in others)):
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    args.overrides = [*getattr(args, "overrides", []), *others]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        sys.exit(args.run(args))
    except UserError as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mobile_vla", description="Everything but training (run.py).")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    inspect = commands.add_parser(
        "inspect", help="what a folder of episodes holds, what is wrong with it, what it can show"
    )
    inspect.add_argument("path", type=Path, help="folder of HDF5 episodes")
    inspect.add_argument(
        "overrides",
        nargs="*",
        help="config overrides, such as dataset.padding=none or dataset.actions=[linear_x,angular_z]",
    )
    inspect.set_defaults(run=_inspect)

    importing = commands.add_parser("import", help="turn recordings of another tool into episodes")
    sources = importing.add_subparsers(required=True, metavar="SOURCE")
    donkeycar = sources.add_parser("donkeycar", help="a DonkeyCar tub")
    donkeycar.add_argument("tub", type=Path, help="folder with manifest.json")
    donkeycar.add_argument("out", type=Path, help="folder to write the episodes to; must not hold files")
    add_flags(donkeycar, TubOptions)
    donkeycar.set_defaults(run=_import_donkeycar)

    sampler = commands.add_parser("sampler", help="what a sampler draws, without training: tables and a picture")
    sampler.add_argument("name", metavar="NAME", help="option of the config group sampler, such as stratified")
    sampler.add_argument("--dataset", metavar="NAME", help="the same as the override dataset=NAME")
    sampler.add_argument("--steps", type=int, help="of the budget (default: those of a run)")
    about = "run folder whose losses the sampler is shown, as they stand in its last checkpoint (default: all equal)"
    sampler.add_argument("--scores", type=Path, metavar="RUN", help=about)
    sampler.add_argument("--out", type=Path, help="folder for the picture (default: one in outputs/samplers)")
    sampler.add_argument("overrides", nargs="*", help="config overrides, as of run.py, such as sampler.tau=4")
    sampler.set_defaults(run=_sampler)

    compare = commands.add_parser("compare", help="the comparison table of a multirun folder")
    compare.add_argument("folder", type=Path, help="a multirun folder, or any folder of run folders")
    compare.add_argument("--baseline", help="label the others are held against (default: the study's)")
    compare.add_argument(
        "--change-table",
        action="store_true",
        help="also each metric at the first evaluation after step 0, at the last, and its change",
    )
    compare.set_defaults(run=_compare)

    dashboard = commands.add_parser("dashboard", help="a W&B workspace and report of a multirun folder, as code")
    dashboard.add_argument("folder", type=Path, help="a multirun folder, or any folder of run folders")
    dashboard.add_argument("--baseline", help="label the others are held against (default: the study's)")
    dashboard.set_defaults(run=_dashboard)

    sync = commands.add_parser("sync", help="upload to W&B the runs that were recorded offline")
    sync.add_argument("folder", type=Path, help="everything below it is looked through")
    sync.set_defaults(run=_sync)

    rollout = commands.add_parser("rollout", help="let a trained policy drive in the embedded world")
    _add_policy_arguments(rollout)
    about = (
        "option of conf/closed_loop/suite, or a YAML file of what differs from seen; may be given again (default: all)"
    )
    rollout.add_argument("--suite", action="append", default=[], help=about)
    rollout.add_argument("--episodes", type=int, help="initial states of each suite (default: closed_loop.episodes)")
    about = "who drives: the policy, the policy with empty instructions, the data's expert, or chance"
    rollout.add_argument("--driver", choices=_DRIVERS, default=_DRIVERS[0], help=about)
    about = "new folder for episode_results.jsonl, summary.json and videos (default: one in RUN/rollouts)"
    rollout.add_argument("--out", type=Path, help=about)
    about = "config overrides, such as closed_loop.execution.count=4 or closed_loop/execution=temporal_ensemble"
    rollout.add_argument("overrides", nargs="*", help=about)
    rollout.set_defaults(run=_rollout)

    serving = commands.add_parser("serve", help="answer robots over a websocket: observation in, chunk of actions out")
    _add_policy_arguments(serving)
    serving.add_argument("--host", default="127.0.0.1", help="to listen on; 0.0.0.0: all (default: %(default)s)")
    serving.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    serving.set_defaults(run=_serve)

    export = commands.add_parser("export", help="write a policy as a folder to publish, with its model card")
    _add_checkpoint_arguments(export)
    export.add_argument("out", type=Path, help="new folder")
    export.add_argument(
        "--merge", action="store_true", help="merge the adapter into the pretrained weights, whole in OUT"
    )
    export.set_defaults(run=_export)

    losses = commands.add_parser("losses", help="the loss of every train window under a trained run, as a score file")
    _add_policy_arguments(losses)
    losses.add_argument("out", type=Path, help="window score file to write (.csv or .parquet)")
    losses.set_defaults(run=_losses)

    irreducible = commands.add_parser(
        "irreducible", help="the loss of every train window under models that have not seen its episode (sampler=rho)"
    )
    irreducible.add_argument("out", type=Path, help="window score file to write (.csv or .parquet)")
    irreducible.add_argument("--folds", type=int, default=2, help="of the train episodes (default: %(default)s)")
    about = "which of each fold's: the last, or the one that predicts the windows it scores best (default: %(default)s)"
    irreducible.add_argument("--checkpoint", choices=("last", "best"), default="last", help=about)
    irreducible.add_argument("overrides", nargs="*", help="config overrides, as of run.py, such as trainer.steps=500")
    irreducible.set_defaults(run=_irreducible)
    return parser


def _add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    _add_checkpoint_arguments(parser)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")


def _add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", type=Path, metavar="RUN", help="a run folder, or one of its checkpoints")
    parser.add_argument(
        "--checkpoint", choices=("last", "best"), default="last", help="of a run (default: %(default)s)"
    )
    about = "where the pretrained weights lie that it was trained on: a folder or a hub name (default: where it says)"
    parser.add_argument("--base", help=about)
    about = "full name of a backbone or head class of your own that the checkpoint may name; may be given again"
    parser.add_argument("--trust", action="append", default=[], metavar="CLASS", help=about)


def _inspect(args: argparse.Namespace) -> int:
    from mobile_vla.build import build_dataset, check_config, compose_config
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
    console = Console()
    scan = dataset.scan()
    if scan.problems:
        console.print(summarise_problems(scan.problems), style="red", highlight=False, markup=False, soft_wrap=True)
    if not scan.episodes:
        return 1
    data = dataset.open(scan)
    evidence = gather_evidence(data)
    print_evidence(evidence, console)
    stream = Stream(cfg.seed, "sampler")
    of_samplers = warn_of_samplers(data.readers["train"], batch_size=cfg.trainer.batch_size, stream=stream)
    print_warnings([*data.warnings, *evidence.warnings(), *of_samplers], console)
    return 1 if scan.problems else 0


def _import_donkeycar(args: argparse.Namespace) -> int:
    from mobile_vla.data.importers.donkeycar import import_tub

    print(import_tub(args.tub, args.out, options_from(args, TubOptions)))
    print(f"next: python run.py dataset=donkeycar dataset.path={args.out}")
    return 0


def _sampler(args: argparse.Namespace) -> int:
    from mobile_vla.sampler_report.command import SamplerReport

    overrides = [*([f"dataset={args.dataset}"] if args.dataset else []), *args.overrides]
    SamplerReport(name=args.name, overrides=overrides, steps=args.steps, scores=args.scores, out=args.out).run()
    return 0


def _compare(args: argparse.Namespace) -> int:
    from mobile_vla.compare.change_table import report_change_table
    from mobile_vla.compare.report import compare_folder

    console = Console()
    comparison = compare_folder(args.folder, baseline=args.baseline, console=console)
    if args.change_table:
        report_change_table(args.folder, console)
    return 1 if comparison.unfinished else 0


def _dashboard(args: argparse.Namespace) -> int:
    from mobile_vla.compare.dashboard.publish import publish_dashboard

    publish_dashboard(args.folder, baseline=args.baseline, console=Console())
    return 0


def _sync(args: argparse.Namespace) -> int:
    from mobile_vla.tracking.sync import sync_folder

    return 1 if sync_folder(args.folder, Console()) else 0


def _rollout(args: argparse.Namespace) -> int:
    from mobile_vla.rollout_command import Rollout

    Rollout(
        policy=_load_policy(args),
        driver=args.driver,
        suites=args.suite,
        episodes=args.episodes,
        overrides=args.overrides,
        out=args.out,
    ).run()
    return 0


def _serve(args: argparse.Namespace) -> int:
    from mobile_vla.serving.server import serve

    serve(_load_policy(args), host=args.host, port=args.port)
    return 0


def _export(args: argparse.Namespace) -> int:
    from mobile_vla.export_command import Export

    Export(
        source=args.policy,
        out=args.out,
        checkpoint=args.checkpoint,
        merge=args.merge,
        base=args.base,
        trust=args.trust,
    ).run()
    return 0


def _losses(args: argparse.Namespace) -> int:
    from mobile_vla.window_losses.trained_run import RunLosses

    RunLosses(
        source=args.policy,
        out=args.out,
        checkpoint=args.checkpoint,
        device=args.device,
        base=args.base,
        trust=args.trust,
    ).run()
    return 0


def _irreducible(args: argparse.Namespace) -> int:
    from mobile_vla.window_losses.irreducible import Irreducible

    Irreducible(out=args.out, num_folds=args.folds, checkpoint=args.checkpoint, overrides=args.overrides).run()
    return 0


def _load_policy(args: argparse.Namespace) -> Policy:
    import torch

    from mobile_vla.policy.policy import Policy

    torch.set_num_threads(1)  # as in training: another number rounds differently, and a drive amplifies it
    return Policy.load(args.policy, checkpoint=args.checkpoint, device=args.device, base=args.base, trust=args.trust)
