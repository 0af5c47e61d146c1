"""Start eight processes on an empty cache at once: it is built once, and all of them read the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from promises import Facts, Outcome
from tiny_runs import tiny_overrides, write_tiny_episodes

_STARTERS = 8

_OPEN = """
import hashlib, json, logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
from mobile_vla.run.build import build_dataset
from mobile_vla.config import compose_config

data = build_dataset(compose_config(json.loads(sys.argv[1]))).open()
pixels = hashlib.blake2b(b"".join(images_FYXC.tobytes() for images_FYXC in data.frames.cameras.values()))
print(pixels.hexdigest(), data.data_hash)
"""


def trial(seed: int, number: int, folder: Path, batch: int) -> Outcome:
    """Let the eight open one data set; ``batch`` is 1."""
    overrides = [*tiny_overrides(write_tiny_episodes(folder / "episodes"), folder / "cache")]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, json.dumps(overrides)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(_STARTERS)
    ]
    ended = [process.communicate(timeout=120) for process in started]
    broken = [said[1][-300:] for process, said in zip(started, ended, strict=True) if process.returncode]
    num_builds = sum("decoding episodes" in errors for _, errors in ended)
    if len({output for output, _ in ended}) != 1:
        broken.append(f"the starters read different data: {sorted({output for output, _ in ended})}")
    if num_builds != 1:
        broken.append(f"the cache was built {num_builds} times")
    left = [path.name for path in (folder / "cache").iterdir() if path.name.endswith((".partial", ".tmp"))]
    broken += [f"left behind: {name}" for name in left]
    return Outcome(num_trials=1, facts={"builds": num_builds}, broken=broken)


def figure(facts: Sequence[Facts]) -> str:
    """Return how often the cache was built in all."""
    return f"{_STARTERS} starters each: {sum(found['builds'] for found in facts):.0f} builds in {len(facts)} caches"
