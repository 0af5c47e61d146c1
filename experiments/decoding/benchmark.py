"""Time the decoding of a LeRobot folder's videos into the frame cache, beside PyAV and Pillow alone."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from mobile_vla.data.digests import digest_recordings
from mobile_vla.data.episodes import read_recordings
from mobile_vla.data.frames import ImageOptions, decode_into, open_frames
from mobile_vla.data.reading.process import close_readers
from mobile_vla.data.sources.contract import Recording
from mobile_vla.data.sources.lerobot.source import LeRobotSource


def bare(path: Path, side: int) -> int:
    """Return the number of frames of a video, each decoded and resized on one thread, and then forgotten."""
    import av

    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        num_frames = 0
        for frame in container.decode(video=0):
            picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
            picture.resize((side, side), Image.Resampling.BILINEAR)
            num_frames += 1
    return num_frames


def bare_s(videos: Sequence[Path], *, side: int, num_processes: int) -> float:
    """Return the seconds in which as many processes decode the videos with PyAV and Pillow alone."""
    start = time.perf_counter()
    with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(bare, videos, [side] * len(videos)))
    return time.perf_counter() - start


def ours_s(
    source: LeRobotSource, recordings: Sequence[Recording], camera: str, *, image: ImageOptions, num_processes: int
) -> float:
    """Return the seconds in which a run decodes the same frames: checked, resized and written to a cache."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        digests = digest_recordings(recordings, cache_dir=cache)
        close_readers()  # both ways start their processes anew
        start = time.perf_counter()
        open_frames(
            source,
            recordings,
            cameras=[camera],
            options=image,
            digests=digests,
            cache_dir=cache,
            num_workers=num_processes,
        )
        return time.perf_counter() - start


def cpu_of_one(
    source: LeRobotSource, recording: Recording, video: Path, camera: str, *, image: ImageOptions
) -> tuple[float, float]:
    """Return the processor seconds of both ways for one video in this process: bare, ours.

    On a machine where other programs run, this ratio says more than the clock.
    """
    start = time.process_time()
    bare(video, image.size[0])
    middle = time.process_time()
    with tempfile.NamedTemporaryFile() as frames:
        for _ in decode_into(recording.path, source, recording, camera, Path(frames.name), 0, image):
            pass
    return middle - start, time.process_time() - middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a LeRobot folder with one episode a video (v2.1)")
    parser.add_argument("--side", type=int, default=64, help="rows and columns of the policy's image, in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="the ways take turns so often")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    source = LeRobotSource(folder=options.folder)
    with tempfile.TemporaryDirectory() as cache:
        recordings = read_recordings(source, cache_dir=Path(cache), num_workers=options.processes).recordings
    camera = recordings[0].spec.cameras[0].name
    videos = [r.files[r.part["cameras"][camera]["first_file"]] for r in recordings]
    num_frames = sum(recording.num_frames for recording in recordings)
    image = ImageOptions(size=(options.side, options.side), resize="direct", channel_order="rgb")
    table = Table("round", "bare s", "ours s", "ratio", "bare CPU s, one video", "ours CPU s, one video", "CPU ratio")
    for number in range(options.rounds):
        alone = bare_s(videos, side=options.side, num_processes=options.processes)
        ours = ours_s(source, recordings, camera, image=image, num_processes=options.processes)
        alone_cpu, ours_cpu = cpu_of_one(source, recordings[0], videos[0], camera, image=image)
        values = (alone, ours, ours / alone, alone_cpu, ours_cpu, ours_cpu / alone_cpu)
        table.add_row(str(number + 1), *(f"{value:.2f}" for value in values))
    Console().print(f"{num_frames:,} frames of {len(videos)} videos, {options.processes} processes", table)


if __name__ == "__main__":
    main()
