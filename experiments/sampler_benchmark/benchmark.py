"""Time every sampler's draw and score update on ten million windows, beside torch's and torchrl's, on one core."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from contenders import SMOOTHING, Contender, Ours, TorchrlPrioritized, TorchWeighted
from measure import Timer, resident_bytes, time_epoch, traced_bytes
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rows import Row, Times, markdown, verdict, write_csv
from synthetic import SyntheticData, make_data, make_windows
from torchrl_trees import import_trees

from mobile_vla.config import compose_config
from mobile_vla.installation import CONF
from mobile_vla.process.progress_bar import track
from mobile_vla.run.build import build_sampler
from mobile_vla.sampling.contract import Sampler
from mobile_vla.sampling.score_file import write_window_scores
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import WindowTable
from mobile_vla.streams import Stream

REFERENCE = "prioritized"
"""Our sampler that the other libraries' are held against."""
NUM_MEMORY_STEPS = 20
SLOW_SHARE = 10
"""torch's sampler with new weights each step is given one step where the others are given so many."""

VARIANTS = {
    "action_balanced, density=code": ["sampler=action_balanced", "sampler.density=code"],
    "random_temporal, replacement=false": ["sampler=random_temporal", "sampler.replacement=false"],
    "shuffled, replacement=true": ["sampler=shuffled", "sampler.replacement=true"],
}


def _overrides() -> dict[str, list[str]]:
    shipped = {path.stem: [f"sampler={path.stem}"] for path in (CONF / "sampler").glob("*.yaml")}
    return dict(sorted((shipped | VARIANTS).items()))


class Bench:
    """The data that all samplers share, and the scores of a run that has seen every window."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.num_windows: int = options.windows
        self.batch_size: int = options.batch_size
        self.num_steps: int = options.steps
        self.seed: int = options.seed
        random = np.random.default_rng(self.seed)
        windows, self.table_bytes, _ = traced_bytes(lambda: make_windows(self.num_windows, random))
        self.data: SyntheticData = make_data(windows, random)
        self._score_file = folder / "scores.parquet"
        write_window_scores(self._score_file, windows, 0.3 * self.data.loss)
        self._first_step = -(-self.num_windows // self.batch_size)  # warm-ups end with the first pass
        losses = self.data.losses_at(np.arange(self.num_windows), random)
        self._state = _state_after_a_pass(windows, losses, self._first_step)

    def sampler_nodes(self) -> dict[str, DictConfig]:
        """Return the config of every option of the group as shipped, and of the variants."""
        return {name: self._compose(overrides) for name, overrides in _overrides().items()}

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        node = compose_config(overrides).sampler
        if OmegaConf.is_missing(node, "file") or node.get("file") is not None:
            return compose_config([*overrides, f"sampler.file={self._score_file}"]).sampler
        return node

    def build(self, node: DictConfig) -> Sampler:
        """Return the sampler of ``node``."""
        stream = Stream(self.seed, "sampler")
        return build_sampler(node, self.data.reader(), batch_size=self.batch_size, stream=stream)

    def resume(self, sampler: Sampler) -> Ours:
        """Put ``sampler`` into a run that has seen every window."""
        return Ours(sampler, self.data, state=self._state)

    def timer(self, num_steps: int) -> Timer:
        """Return what runs the steps after the pass."""
        random = np.random.default_rng([self.seed, 1])
        return Timer(self.data, first_step=self._first_step, num_steps=num_steps, random=random)


def _state_after_a_pass(
    windows: WindowTable, losses: NDArray[np.float32], num_steps: int
) -> Mapping[str, NDArray[np.generic]]:
    scores = Scores(windows, smoothing=SMOOTHING)
    scores.update(num_steps - 1, np.arange(len(windows)), losses)
    return {**scores.state(), "scenario_losses": np.tile(scores.scenario_losses[0], (num_steps, 1))}


def measure_ours(bench: Bench, name: str, node: DictConfig) -> Row:
    """Build the sampler twice: to time it, and to count its memory, which takes time itself."""
    started = time.perf_counter()
    sampler = bench.build(node)
    construction_s = time.perf_counter() - started
    ours, timer = bench.resume(sampler), bench.timer(bench.num_steps)
    first_draw_ms = timer.first_draw_ms(ours)
    (steps,) = timer.run([ours])
    del sampler, ours

    timer = bench.timer(NUM_MEMORY_STEPS)

    def make_and_use() -> Ours:
        made = bench.resume(bench.build(node))
        timer.run([made])
        return made

    _, held, peak = traced_bytes(make_and_use)
    return Row(
        sampler=name,
        draw=Times.of(steps.draw_ms),
        update=Times.of(steps.update_ms),
        construction_s=construction_s,
        first_draw_ms=first_draw_ms,
        held_bytes=held / bench.num_windows,
        peak_bytes=peak / bench.num_windows,
    )


def measure_beside(
    bench: Bench, ours: Ours, name: str, make: Callable[[], Contender], *, num_steps: int
) -> tuple[Row, float]:
    """Time another library's sampler and ``ours`` in turns, step by step; return the row and our median draw in ms."""
    started = time.perf_counter()
    theirs, num_bytes = resident_bytes(make)
    construction_s = time.perf_counter() - started
    timer = bench.timer(num_steps)
    first_draw_ms = timer.first_draw_ms(theirs)
    steps, our_steps = timer.run([theirs, ours])
    row = Row(
        sampler=name,
        draw=Times.of(steps.draw_ms),
        update=Times.of(steps.update_ms),
        construction_s=construction_s,
        first_draw_ms=first_draw_ms,
        held_bytes=num_bytes / bench.num_windows,
        draw_to_ours=float(np.median(steps.draw_ms[0] / our_steps.draw_ms[0])),
        update_to_ours=float(np.median(steps.update_ms[0] / our_steps.update_ms[0])),
    )
    return row, float(np.median(our_steps.draw_ms[0]))


def measure_theirs(bench: Bench) -> list[Row]:
    """Measure torchrl's and torch's samplers beside ours, and an epoch of torch's with the weights of its beginning.

    That epoch's ``draw_to_ours`` is its whole time, shared by its batches.
    """
    loss, size = bench.data.loss, bench.batch_size
    ours = bench.resume(bench.build(bench.sampler_nodes()[REFERENCE]))
    bench.timer(1).first_draw_ms(ours)
    torchrl_row, _ = measure_beside(
        bench,
        ours,
        f"torchrl {version('torchrl')} PrioritizedSampler",
        lambda: TorchrlPrioritized(loss, batch_size=size),
        num_steps=bench.num_steps,
    )
    name = f"torch {version('torch')} WeightedRandomSampler"
    weighted_row, our_draw_ms = measure_beside(
        bench,
        ours,
        f"{name}, new weights each step",
        lambda: TorchWeighted(loss, batch_size=size),
        num_steps=max(bench.num_steps // SLOW_SHARE, 1),
    )
    started = time.perf_counter()
    weights = TorchWeighted(loss, batch_size=size).weights
    construction_s = time.perf_counter() - started
    epoch = time_epoch(weights, batch_size=size)
    frozen_row = Row(
        sampler=f"{name}, an epoch's weights",
        draw=Times.of(epoch.draw_ms),
        update=None,
        construction_s=construction_s,
        first_draw_ms=None,
        held_bytes=(epoch.num_bytes + weights.nbytes) / bench.num_windows,
        draw_to_ours=float(epoch.draw_ms[0].mean()) / our_draw_ms,
    )
    return [torchrl_row, weighted_row, frozen_row]


def log_bytes_a_step(bench: Bench, *, num_steps: int = 2000) -> float:
    """Return by how much the scores' log of the scenarios' losses grows with every step, whatever the sampler."""
    scores, ids = Scores(bench.data.windows, smoothing=SMOOTHING), np.arange(bench.batch_size)

    def update() -> None:
        for step in range(num_steps):
            scores.update(step, ids, bench.data.loss[ids])

    _, held, _ = traced_bytes(update)
    return held / num_steps


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options; their help is their documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default, text in (
        ("windows", 10_000_000, "windows of the table"),
        ("batch-size", 256, "windows a draw"),
        ("steps", 200, "steps that are timed of each sampler, after the first"),
        ("seed", 0, "seed of the table and of the draws"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default: {default})")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these of our samplers alone, and no other library's")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as CSV")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - _overrides().keys():
        parser.error(f"--only {', '.join(sorted(unknown))}: expected of {', '.join(_overrides())}")
    if min(options.windows, options.batch_size, options.steps) < 1:
        parser.error("--windows, --batch-size, --steps: expected 1 or more")
    return options


def main() -> None:
    """Measure every sampler of ours one after the other, then the others beside ``REFERENCE``."""
    options = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    trees = None if options.only else import_trees()  # before it has one core, as it may compile
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    np.random.seed(options.seed)  # torchrl draws from the global state
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary), options)
        nodes = {name: node for name, node in bench.sampler_nodes().items() if name in (options.only or [name])}
        ours = [
            measure_ours(bench, name, node)
            for name, node in track(nodes.items(), description="measuring", total=len(nodes))
        ]
        theirs = [] if options.only else measure_theirs(bench)
        log_bytes = log_bytes_a_step(bench)
    print(markdown([*ours, *theirs]))
    for line in (
        *verdict(ours),
        f"window table: {bench.table_bytes / options.windows:.1f} bytes a window, its episodes' names included",
        f"log of the scenarios' losses: {log_bytes:.0f} bytes a step",
        f"{options.windows:,} windows, batches of {options.batch_size}, {options.steps} steps, one core, one thread",
        f"{date.today()}, Python {platform.python_version()}, numpy {np.__version__}",
        *([trees] if trees else []),
    ):
        print(f"- {line}")
    if options.write:
        write_csv(options.write, [*ours, *theirs])


if __name__ == "__main__":
    main()
