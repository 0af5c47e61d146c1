"""Time window ids to a batch on one core, beside the report's loader on the same gzip 720p episodes."""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import h5py
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from mobile_vla.data.dataset import OpenDataset
from mobile_vla.process.progress_bar import track
from mobile_vla.run.build import build_dataset
from mobile_vla.sampling.contract import draw_windows
from mobile_vla.sampling.scores import Scores
from mobile_vla.sampling.strategies.shuffled import Shuffled
from mobile_vla.schema import Batch, WindowTable
from mobile_vla.streams import Stream

HERE = Path(__file__).resolve().parent
CONF = HERE.parents[1] / "conf"
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

ROWS, COLUMNS = 720, 1280
IMAGE_SIZE = 224
REPORT_FRAMES = 18
"""Frames that the report's loader reads for a window: window_size 8 + fwd_pred_next_n 10."""
REAL_MB = (18.6, 26.3)
"""Size of a real 18-frame episode file."""
PR_SET_THP_DISABLE = 41
"""From linux/prctl.h."""


@dataclass(frozen=True, kw_only=True)
class Loader:
    """One way to get windows; ``load(number)`` loads the ``num_windows`` windows of round ``number``."""

    name: str
    num_windows: int
    load: Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Medians over the rounds of one loader: windows by the clock (and its range) and by a second of processor time.

    The second leaves out what other programs took from the core. ``ratio`` is to the report's loader, by the clock,
    round by round.
    """

    name: str
    windows_per_s: float
    slowest: float
    fastest: float
    windows_per_cpu_s: float
    ratio: float


@dataclass(frozen=True, kw_only=True)
class Files:
    """The episodes that were read; ``mb_per_18_frames`` compares with ``REAL_MB``."""

    episodes: int
    frames: int
    mb_per_18_frames: float
    cache_mb: float
    cache_build_s: float


def write_episodes(folder: Path, *, num_episodes: int, num_frames: int, seed: int) -> int:
    """Write episodes as the real collector does (gzip, h5py's automatic chunks); return their size in bytes."""
    folder.mkdir()
    for index in track(range(num_episodes), description="writing episodes"):
        random = np.random.default_rng([seed, index])
        side = ("left", "right")[index % 2]
        with h5py.File(folder / f"episode_20251204_{index:06d}_1box_hori_{side}.h5", "w") as file:
            images = drive_past(random, num_frames=num_frames)
            file.create_dataset("images", data=images, compression="gzip", chunks=True)
            file.create_dataset("actions", data=random.choice(np.array([-1.15, 0, 1.15], np.float32), (num_frames, 3)))
    return sum(path.stat().st_size for path in folder.iterdir())


def drive_past(random: np.random.Generator, *, num_frames: int) -> NDArray[np.uint8]:
    """Return frames [F, 720, 1280, 3] of a moving view: soft shapes, texture and sensor noise.

    The noise (0.3 grey levels before rounding) makes files as large as real ones, ``REAL_MB``.
    """
    shapes = random.integers(30, 226, (6, 10, 3), dtype=np.uint8)
    texture = random.integers(0, 256, (45, 80, 3), dtype=np.uint8)
    view = 0.85 * _enlarge(shapes) + 0.15 * _enlarge(texture)
    frames = np.empty((num_frames, ROWS, COLUMNS, 3), np.uint8)
    for index in range(num_frames):
        noise = 0.3 * random.standard_normal(view.shape, dtype=np.float32)
        frames[index] = np.clip(np.roll(view, 8 * index, axis=1) + noise, 0, 255)
    return frames


def _enlarge(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(image).resize((COLUMNS, ROWS), Image.Resampling.BICUBIC), np.float32)


def open_data(folder: Path, cache: Path, *, padding: str, num_workers: int) -> OpenDataset:
    """Open the episodes as ``python run.py dataset=h5`` does, building the frame cache where it is missing."""
    options = {
        "path": folder,
        "cache_dir": cache,
        "image_size": IMAGE_SIZE,
        "padding": padding,
        "num_workers": num_workers,
    }
    overrides = ["dataset=h5", *(f"dataset.{key}={value}" for key, value in options.items())]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return build_dataset(compose("config", overrides)).open()


def load_like_the_report(path: Path, start: int) -> torch.Tensor:
    """Return the 18 frames from ``start`` on, [18, 3, 224, 224] uint8: read by h5py, resized by PIL, stacked."""
    with h5py.File(path, "r") as file:
        images = file["images"]
        assert isinstance(images, h5py.Dataset)
        frames: NDArray[np.uint8] = images[start : start + REPORT_FRAMES]
    size = (IMAGE_SIZE, IMAGE_SIZE)
    resized = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)) for frame in frames]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)


def make_loaders(folder: Path, cache: Path, options: argparse.Namespace) -> list[Loader]:
    """Return ours on random ids, on a sampler's draws and on padded windows, and last the report's."""
    data, padded = (
        open_data(folder, cache, padding=padding, num_workers=options.workers) for padding in ("none", "both")
    )
    table, table_padded = data.windows["train"], padded.windows["train"]
    reader, reader_padded = data.readers["train"], padded.readers["train"]
    size = options.batch_size
    sampler = Shuffled(windows=table, batch_size=size, stream=Stream(options.seed, "sampler"), replacement=False)
    scores = Scores(table, smoothing=0.5)

    def look(ids: NDArray[np.int64], measure: str) -> NDArray[np.float32]:
        raise NotImplementedError("shuffled draws without a look at the model")

    def random_ids(windows: WindowTable, step: int) -> NDArray[np.int64]:
        return Stream(options.seed, "ids").at(step).integers(0, len(windows), size)

    def ours(name: str, load_batch: Callable[[int], Batch]) -> Loader:
        def load(number: int) -> None:
            for step in range(number * options.batches, (number + 1) * options.batches):
                # As in the training loop, the batch before lives until this one is there.
                batch = load_batch(step)
                assert len(batch) == size

        return Loader(name=name, num_windows=size * options.batches, load=load)

    def load_report(number: int) -> None:
        for window in random_ids(table, number)[: options.report_windows]:
            episode = data.episodes[table.episode_names[table.episode[window]]]
            load_like_the_report(episode.path, int(table.start[window]))

    return [
        ours("ours, random ids", lambda step: reader.gather(random_ids(table, step))),
        ours("ours, shuffled", lambda step: reader.gather(draw_windows(sampler, step, scores, look).ids)),
        ours("ours, padding=both", lambda step: reader_padded.gather(random_ids(table_padded, step))),
        Loader(name="report's loader", num_windows=options.report_windows, load=load_report),
    ]


def measure(loaders: Sequence[Loader], *, num_rounds: int) -> list[Row]:
    """Time all loaders side by side in every round, after one that is not counted; the last is the reference."""
    seconds = np.empty((2, len(loaders), num_rounds + 1))
    for number in track(range(num_rounds + 1), description="timing"):
        for place, loader in enumerate(loaders):
            started = np.array([time.perf_counter(), time.process_time()])
            loader.load(number)
            seconds[:, place, number] = np.array([time.perf_counter(), time.process_time()]) - started
    num_windows = np.array([loader.num_windows for loader in loaders])
    by_clock, by_processor = num_windows[:, None] / seconds[:, :, 1:]
    return [
        Row(
            name=loader.name,
            windows_per_s=float(np.median(rates)),
            slowest=float(rates.min()),
            fastest=float(rates.max()),
            windows_per_cpu_s=float(np.median(cpu_rates)),
            ratio=float(np.median(rates / by_clock[-1])),
        )
        for loader, rates, cpu_rates in zip(loaders, by_clock, by_processor, strict=True)
    ]


def make_table(rows: Sequence[Row]) -> Table:
    """Lay the figures out, one row a loader."""
    table = Table("loader", title=f"window ids to a batch at {IMAGE_SIZE} px on one core")
    for heading in ("windows/s", "slowest", "fastest", "windows/CPU s", "ms a window", "to report's"):
        table.add_column(heading, justify="right")
    for row in rows:
        rates = (row.windows_per_s, row.slowest, row.fastest, row.windows_per_cpu_s)
        cells = [f"{rate:,.0f}" if rate >= 100 else f"{rate:.2f}" for rate in rates]
        table.add_row(row.name, *cells, f"{1000 / row.windows_per_s:,.3f}", f"{row.ratio:,.0f} x")
    return table


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options; their help is their documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default, text in (
        ("episodes", 12, "episode files to generate"),
        ("frames", 40, "frames an episode, 18 or more"),
        ("batch-size", 32, "windows a batch"),
        ("batches", 20, "batches of ours a round"),
        ("report-windows", 2, "windows of the report's loader a round"),
        ("rounds", 9, "rounds; medians are over them"),
        ("workers", 2, "processes that build the cache"),
        ("seed", 0, "seed of pictures and draws"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default: {default})")
    parser.add_argument("--no-huge-pages", action="store_true", help="keep Linux from giving this process huge pages")
    parser.add_argument("--write", action="store_true", help="write results.json beside this script")
    options = parser.parse_args()
    if options.frames < REPORT_FRAMES:
        parser.error(f"--frames {options.frames}: a window of the report takes {REPORT_FRAMES}")
    if min(options.batches, options.rounds) < 1:
        parser.error("--batches, --rounds: expected 1 or more")
    if not 1 <= options.report_windows <= options.batch_size:
        parser.error(f"--report-windows {options.report_windows}: expected 1 to --batch-size {options.batch_size}")
    return options


def describe_machine(*, has_huge_pages: bool) -> dict[str, str]:
    """Return what the figures belong to, and how Linux gives this process huge pages."""
    huge_pages = HUGE_PAGES.read_text().split("[")[1].split("]")[0] if HUGE_PAGES.is_file() else "unknown"
    return {
        "date": date.today().isoformat(),
        "cores": str(len(os.sched_getaffinity(0))),
        "huge pages": huge_pages if has_huge_pages else "off",
        "Python": platform.python_version(),
        "torch": torch.__version__,
    }


def make_files(folder: Path, cache: Path, options: argparse.Namespace) -> Files:
    """Generate the episodes and build their frame cache, timed."""
    num_bytes = write_episodes(folder, num_episodes=options.episodes, num_frames=options.frames, seed=options.seed)
    num_frames = options.episodes * options.frames
    started = time.perf_counter()
    open_data(folder, cache, padding="none", num_workers=options.workers)
    return Files(
        episodes=options.episodes,
        frames=options.frames,
        mb_per_18_frames=num_bytes / num_frames * REPORT_FRAMES / 1e6,
        cache_mb=num_frames * IMAGE_SIZE**2 * 3 / 1e6,
        cache_build_s=time.perf_counter() - started,
    )


def main() -> None:
    """Generate the episodes, build the cache, then time every loader on one core."""
    options = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    machine = describe_machine(has_huge_pages=not options.no_huge_pages)
    if options.no_huge_pages and ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0:
        raise OSError("prctl could not switch huge pages off")
    with tempfile.TemporaryDirectory() as temporary:
        folder, cache = Path(temporary, "episodes"), Path(temporary, "cache")
        files = make_files(folder, cache, options)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        torch.set_num_threads(1)
        rows = measure(make_loaders(folder, cache, options), num_rounds=options.rounds)
    console = Console(width=110)
    console.print(make_table(rows))
    for line in (
        f"{files.episodes} episodes of {files.frames} frames, {files.mb_per_18_frames:.1f} MB for "
        f"{REPORT_FRAMES} frames (real files: {REAL_MB[0]} to {REAL_MB[1]} MB)",
        f"cache of {files.cache_mb:.0f} MB built in {files.cache_build_s:.1f} s by {options.workers} processes",
        f"batches of {options.batch_size}, {options.batches} a round, {options.rounds} rounds",
        ", ".join(f"{name} {value}" for name, value in machine.items()),
    ):
        console.print(line, highlight=False)
    if options.write:
        measured = {"files": asdict(files), "rows": [asdict(row) for row in rows]}
        result = {"machine": machine, "options": vars(options), **measured}
        (HERE / "results.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
