"""Time a training step with a vision-language model under one option after another, side by side in one run."""

from __future__ import annotations

import argparse
import csv
import os
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_models import FAMILIES, SIZES, save_random_model
from rich.console import Console
from rich.table import Table
from steps import Step, Variant, make_batch, make_variants
from torch import nn

from mobile_vla.process.progress_bar import track

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Row:
    """Medians over the rounds. ``ratio``: of windows/s to the variant ``against``, round by round.

    ``backbone_share``: of the time of a step, in the pretrained model's forward and backward. ``peak_gib``: measured on
    a GPU, the other variants' weights left out; ``estimated_gib``: said beforehand, without the head.
    """

    variant: str
    windows_per_s: float
    slowest: float
    fastest: float
    ratio: float
    against: str
    backbone_share: float
    estimated_gib: float
    peak_gib: float | None
    largest_batch: int | None


def time_steps(steps: Mapping[str, Step], *, num_rounds: int, num_steps: int) -> dict[str, list[float]]:
    """Return windows/s in every round of every variant; they take turns, after a round that is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for number in track(range(num_rounds + 1), description="timing"):
        for name, step in steps.items():
            # What costs next to nothing is repeated, so that the clock does not count.
            count = num_steps * (20 if step.variant.has_features else 1)
            _synchronize(step)
            started = time.perf_counter()
            for _ in range(count):
                step()
            _synchronize(step)
            if number:
                rates[name].append(count * len(step.batch) / (time.perf_counter() - started))
    return rates


def backbone_share(step: Step) -> float:
    """Return the share of a step's time in forward and backward of the pretrained model, waiting for the device.

    The model is the first thing of the graph, so its backward ends when all of backward does: at what follows it.
    """
    forward_s, began_s, marks = 0.0, [], []

    def before(*_: object) -> None:
        _synchronize(step)
        began_s.append(time.perf_counter())

    def after(_: nn.Module, __: object, output: Any) -> None:
        nonlocal forward_s
        _synchronize(step)
        forward_s += time.perf_counter() - began_s[-1]
        if output.last_hidden_state.requires_grad:
            output.last_hidden_state.register_hook(backward_begins)

    def backward_begins(_: torch.Tensor) -> None:
        _synchronize(step)
        marks.append(time.perf_counter())

    def optimizer_begins(*_: object) -> None:
        _synchronize(step)
        marks.append(time.perf_counter())

    hooks = [
        step.base.register_forward_pre_hook(before),
        step.base.register_forward_hook(after),
        step.optimizer.register_step_pre_hook(optimizer_begins),
    ]
    started = time.perf_counter()
    step()
    _synchronize(step)
    total_s = time.perf_counter() - started
    for hook in hooks:
        hook.remove()
    return (forward_s + marks[-1] - marks[0]) / total_s


def peak_gib(step: Step) -> float | None:
    """Return the most memory of a step, weights and state of this variant alone; None without a GPU."""
    if step.batch.images_BTVCYX.device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    others = torch.cuda.memory_allocated() - step.num_bytes()
    torch.cuda.reset_peak_memory_stats()
    step()
    return (torch.cuda.max_memory_allocated() - others) / GIB


def largest_batch(variant: Variant, weights: Path, options: argparse.Namespace, device: torch.device) -> int | None:
    """Return the most windows at once, by doubling until memory is full; None on the CPU, which would swap."""
    if device.type != "cuda" or variant.has_features:
        return None
    torch.cuda.empty_cache()
    step = Step(variant, weights, make_batch(1, options, device), options)
    num_windows = 1
    while num_windows < options.largest:
        step.batch = make_batch(2 * num_windows, options, device)
        try:
            step()
        except torch.OutOfMemoryError:
            break
        num_windows *= 2
    return num_windows


def measure_variants(
    variants: Sequence[Variant], weights: Path, options: argparse.Namespace, device: torch.device
) -> list[Row]:
    """Time all variants side by side, then look at each by itself."""
    batch = make_batch(options.batch, options, device)
    steps = {variant.name: Step(variant, weights, batch, options) for variant in variants}
    rates = time_steps(steps, num_rounds=options.rounds, num_steps=options.steps)
    # Compiled code has no place to look at in between.
    shares = {
        name: float("nan") if step.trainer.compile else float(np.median([backbone_share(step) for _ in range(3)]))
        for name, step in steps.items()
    }
    peaks = {name: peak_gib(step) for name, step in steps.items()}
    estimates = {name: step.estimated_bytes / GIB for name, step in steps.items()}
    steps.clear()
    largest = {variant.name: largest_batch(variant, weights, options, device) for variant in variants}
    return [
        Row(
            variant=variant.name,
            windows_per_s=float(np.median(rates[variant.name])),
            slowest=min(rates[variant.name]),
            fastest=max(rates[variant.name]),
            ratio=float(np.median(np.divide(rates[variant.name], rates[variant.against]))),
            against=variant.against,
            backbone_share=shares[variant.name],
            estimated_gib=estimates[variant.name],
            peak_gib=peaks[variant.name],
            largest_batch=largest[variant.name],
        )
        for variant in variants
    ]


def make_table(rows: Sequence[Row], title: str) -> Table:
    """Lay the figures out, one row a variant."""
    table = Table("variant", title=title)
    for heading in ("windows/s", "slowest", "fastest", "ratio", "in backbone", "estimate GiB", "peak GiB", "largest"):
        table.add_column(heading, justify="right")
    for row in rows:
        rates = [f"{rate:,.0f}" if rate >= 100 else f"{rate:.2f}" for rate in _rates(row)]
        ratio = f"{row.ratio:.2f} x" if row.against == rows[0].variant else f"{row.ratio:,.1f} x {row.against}"
        share = "" if np.isnan(row.backbone_share) else f"{row.backbone_share:.0%}"
        peak = "" if row.peak_gib is None else f"{row.peak_gib:.2f}"
        largest = "" if row.largest_batch is None else str(row.largest_batch)
        table.add_row(row.variant, *rates, ratio, share, f"{row.estimated_gib:.3f}", peak, largest)
    return table


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options; their help is their documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=sorted(FAMILIES), default="kosmos2", help="(default: kosmos2)")
    parser.add_argument("--size", choices=list(SIZES), default="tiny", help="of the random model (default: tiny)")
    parser.add_argument("--weights", type=Path, help="a folder of a model of any family, in place of a random one")
    parser.add_argument("--variants", help="only those whose names hold one of these texts, separated by commas")
    for name, default, text in (
        ("batch", 8, "windows a batch"),
        ("window", 8, "frames a window"),
        ("image", 224, "rows and columns of the frames, in pixels"),
        ("steps", 3, "steps of each variant a round"),
        ("rounds", 7, "rounds; medians are over them"),
        ("largest", 256, "windows at which the search for the largest batch ends, on a GPU"),
        ("seed", 0, "seed of weights and pictures"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default: {default})")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which on a CPU takes minutes of C++")
    parser.add_argument("--write", type=Path, help="write the table to this CSV file")
    return parser.parse_args()


def choose_variants(options: argparse.Namespace, device: torch.device) -> list[Variant]:
    """Return the variants that ``--variants`` names, and those that their ratios are to."""
    known = {variant.name: variant for variant in make_variants(device, has_compile=options.compile)}
    texts = options.variants.split(",") if options.variants else [""]
    named = {name for name in known if any(text in name for text in texts)}
    named |= {known[name].against for name in named}
    if not named:
        raise SystemExit(f"--variants {options.variants}: expected parts of {', '.join(known)}")
    return [variant for name, variant in known.items() if name in named]


def main() -> None:
    """Make the model, measure every variant, show the table."""
    options = parse_arguments()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    variants = choose_variants(options, device)
    with tempfile.TemporaryDirectory() as temporary:
        weights = options.weights
        if weights is None:
            dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
            folder = Path(temporary, "model")
            weights = save_random_model(options.family, options.size, folder, dtype=dtype, seed=options.seed)
        rows = measure_variants(variants, weights, options, device)
    described = str(weights) if options.weights else f"{options.family}, {options.size}"
    console = Console(width=140)
    console.print(
        make_table(rows, f"{described}: {options.batch} windows of {options.window} frames of {options.image} px")
    )
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{len(os.sched_getaffinity(0))} cores"
    console.print(
        f"{date.today().isoformat()}, {gpu}, Python {platform.python_version()}, torch {torch.__version__}; "
        f"{options.rounds} rounds of {options.steps} steps",
        highlight=False,
    )
    if device.type != "cuda":
        console.print("CPU, one thread: peak memory and the largest batch are measured on a GPU only", highlight=False)
    if options.write:
        with options.write.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)


def _rates(row: Row) -> tuple[float, float, float]:
    return row.windows_per_s, row.slowest, row.fastest


def _synchronize(step: Step) -> None:
    if step.batch.images_BTVCYX.device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
