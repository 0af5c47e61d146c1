"""Render recorded drives and write them as episode files, in parallel processes and with visible progress."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from mobile_vla.data.episode_writer import write_episode
from mobile_vla.sim.expert import positions
from mobile_vla.sim.scene import STEP_S, Scene
from mobile_vla.streams import Stream

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """All of one episode but its images: ``actions`` is [F, 3] in m/s, m/s, rad/s; ``name`` is the file's stem."""

    name: str
    scene: Scene
    actions: NDArray[np.float32]
    instruction: str


@dataclass(frozen=True, kw_only=True)
class _WriteJob:
    recording: Recording
    folder: Path
    image_size: int


def episode_names(scenario_names: Sequence[str], *, stream: Stream) -> list[str]:
    """Return one file stem an episode, ``episode_YYYYMMDD_HHMMSS_<scenario>``, with invented, increasing times."""
    rng = stream.at(0)
    first_day = datetime(2025, 12, 1, 9) + timedelta(days=int(rng.integers(0, 60)))
    seconds = np.cumsum(rng.integers(25, 90, len(scenario_names)))
    times = (first_day + timedelta(seconds=int(second)) for second in seconds)
    return [f"episode_{time:%Y%m%d_%H%M%S}_{name}" for time, name in zip(times, scenario_names, strict=True)]


def write_recordings(recordings: Sequence[Recording], folder: Path, *, image_size: int, num_workers: int) -> None:
    """Render every recording and write it as ``folder/<name>.h5``; the bytes do not depend on ``num_workers``."""
    jobs = [_WriteJob(recording=recording, folder=folder, image_size=image_size) for recording in recordings]
    if num_workers <= 1:
        _show_progress(map(_write, jobs), len(jobs))
        return
    # Spawned, not forked: a parent that already runs threads (torch, W&B) would hand broken locks to a forked child.
    with ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        _show_progress(pool.map(_write, jobs, chunksize=4), len(jobs))


def _write(job: _WriteJob) -> None:
    from mobile_vla.sim.camera import FrontCamera

    recording = job.recording
    scenario = recording.scene.scenario
    camera = FrontCamera(recording.scene, image_size=job.image_size)
    images = [camera.render(x=x, y=y) for x, y in positions(recording.scene, recording.actions)]
    write_episode(
        job.folder / f"{recording.name}.h5",
        images_FYXC=np.stack(images),
        actions_FA=recording.actions,
        instruction=recording.instruction,
        attributes={
            "total_duration": len(images) * STEP_S,
            "frame_rate_hz": 1 / STEP_S,
            "scenario": scenario.name,
            "obstacle_layout_type": f"{scenario.num_boxes}box_{scenario.layout}",
            "distance": scenario.distance,
        },
    )


def _show_progress(steps: Iterable[None], total: int) -> None:
    console = Console(stderr=True)
    description = f"Rendering {total} episodes"
    if not console.is_terminal:
        _log.info("%s", description)
    for _ in track(steps, description=description, total=total, console=console, disable=not console.is_terminal):
        pass
