"""Render drives and write them as episode files, in parallel processes and with a progress bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.episode_writer import write_episode
from mobile_vla.process.parallel import run_parallel
from mobile_vla.sim.demonstrations.expert import positions
from mobile_vla.sim.scene import STEP_S, Scene
from mobile_vla.storage.disk import storage_errors
from mobile_vla.streams import Stream


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One episode without its images: ``actions`` is [F, 3] in m/s, m/s, rad/s; ``name`` is the file's stem."""

    name: str
    scene: Scene
    actions: NDArray[np.float32]
    instruction: str


@dataclass(frozen=True, kw_only=True)
class _WriteJob:
    recording: Demonstration
    folder: Path
    image_size: int


def episode_names(scenario_names: Sequence[str], *, stream: Stream) -> list[str]:
    """Return one file stem per episode, ``episode_YYYYMMDD_HHMMSS_<scenario>``, with invented, increasing times."""
    rng = stream.at(0)
    first_day = datetime(2025, 12, 1, 9) + timedelta(days=int(rng.integers(0, 60)))
    seconds = np.cumsum(rng.integers(25, 90, len(scenario_names)))
    times = (first_day + timedelta(seconds=int(second)) for second in seconds)
    return [f"episode_{time:%Y%m%d_%H%M%S}_{name}" for time, name in zip(times, scenario_names, strict=True)]


def write_recordings(
    recordings: Sequence[Demonstration], folder: Path, *, image_size: int, num_workers: int | None
) -> None:
    """Render every recording and write it as ``folder/<name>.h5``; the bytes do not depend on ``num_workers``.

    Raises ``UserError`` if the disk is full or cannot be written; the caller then removes ``folder``.
    """

    def need() -> int:
        # From the mean size of the files so far: how well images compress depends on the scenes.
        sizes = [path.stat().st_size for path in folder.glob("*.h5")]
        largest = 3 * image_size**2 * sum(len(recording.actions) for recording in recordings)
        return sum(sizes) * len(recordings) // len(sizes) if sizes else largest

    jobs = [_WriteJob(recording=recording, folder=folder, image_size=image_size) for recording in recordings]
    with storage_errors(folder.parent, what="the episodes", num_bytes=need, partial=folder):
        run_parallel(_write, jobs, num_workers=num_workers, description="rendering episodes")


def _write(job: _WriteJob) -> None:
    from mobile_vla.sim.camera import FrontCamera

    recording = job.recording
    scenario = recording.scene.scenario
    camera = FrontCamera(recording.scene, image_size=job.image_size)
    images = [camera.render(position) for position in positions(recording.scene, recording.actions)]
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
