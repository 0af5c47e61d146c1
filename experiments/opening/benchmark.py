"""Time the opening of data sets of many episodes whose caches stand."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mobile_vla.config import compose_config
from mobile_vla.data.dataset import Dataset
from mobile_vla.data.episode_writer import write_episode
from mobile_vla.run.build import build_dataset

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from made_lerobot import KEY, TASK, write_v21

NUM_FRAMES = 28


def write_flat(folder: Path, num_episodes: int) -> Path:
    """Write one flat HDF5 file an episode."""
    random = np.random.default_rng(0)
    for index in range(num_episodes):
        write_episode(
            folder / f"episode_20251204_{index:06d}_1box_hori_{('left', 'right')[index % 2]}_core_medium.h5",
            images_FYXC=random.integers(1, 255, (NUM_FRAMES, 8, 8, 3), dtype=np.uint8),
            actions_FA=random.normal(size=(NUM_FRAMES, 3)).astype(np.float32),
            instruction="go",
        )
    return folder


def write_lerobot(folder: Path, num_episodes: int) -> Path:
    """Write one parquet file and one video an episode, as LeRobot v2.1 does; all are copies of the first."""
    write_v21(folder, lengths=(NUM_FRAMES,))
    table = (folder / "data/chunk-000/episode_000000.parquet").read_bytes()
    video = (folder / f"videos/chunk-000/{KEY}/episode_000000.mp4").read_bytes()
    for index in range(num_episodes):
        chunk = f"chunk-{index // 1000:03d}"
        for content, name in ((table, f"data/{chunk}/NAME.parquet"), (video, f"videos/{chunk}/{KEY}/NAME.mp4")):
            path = folder / name.replace("NAME", f"episode_{index:06d}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    lines = [{"episode_index": index, "tasks": [TASK], "length": NUM_FRAMES} for index in range(num_episodes)]
    (folder / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def opening_s(dataset: Dataset) -> float:
    """Return the seconds in which the data set is ready for training."""
    start = time.perf_counter()
    dataset.open()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5, help="openings with the cache, of which the median is taken")
    options = parser.parse_args()
    table = Table("data set", "files", "first opening, s", "with the cache, s", "slowest, s")
    with tempfile.TemporaryDirectory() as root:
        for name, write, files_each in (("flat HDF5", write_flat, 1), ("LeRobot v2.1", write_lerobot, 2)):
            folder = Path(root, name.replace(" ", "_"))
            folder.mkdir()
            write(folder, options.episodes)
            overrides = [f"dataset.path={folder}", f"dataset.cache_dir={root}/cache", "dataset.image_size=8"]
            dataset = build_dataset(compose_config(["dataset=auto", *overrides]))
            first = opening_s(dataset)
            again = [opening_s(dataset) for _ in range(options.rounds)]
            values = (first, statistics.median(again), max(again))
            table.add_row(name, f"{files_each * options.episodes:,}", *(f"{value:.2f}" for value in values))
    Console().print(f"{options.episodes:,} episodes of {NUM_FRAMES} frames", table)


if __name__ == "__main__":
    main()
