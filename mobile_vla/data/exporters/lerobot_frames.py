"""The frames of one episode, encoded in a reading process: PNG images one after the other in a file, or a video."""

from __future__ import annotations

import io
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobile_vla.data.exporters.outgoing import Outgoing, rgb_frames
from mobile_vla.data.exporters.statistics import ImageCounts, Statistics
from mobile_vla.data.sources.contract import Source
from mobile_vla.errors import UserError
from mobile_vla.storage.disk import not_written

_PNG_LEVEL = 1
"""Of a real camera's frames (640x480): 58 a second and 301 KiB each. Level 6, lerobot's: 16 a second and 252 KiB."""

VIDEO_OPTIONS = {"crf": "18", "preset": "veryfast", "g": "2", "bf": "0"}
"""H.264 with a key frame every 2 frames, so that any frame is found quickly.

All players and browsers show it, and lerobot reads it. Of a real camera's frames (640x480), against the AV1 that
lerobot writes (crf 30, preset 12): 216 and 93 frames a second on one core, 12.3 and 8.8 KiB a frame, and 41.1 and
41.2 dB between the decoded frames and the recorded ones.
"""

VIDEO_INFO = {
    "video.codec": "h264",
    "video.pix_fmt": "yuv420p",
    "video.channels": 3,
    "has_audio": False,
    "video.g": 2,
    "video.crf": 18,
    "video.preset": "veryfast",
    "video.fast_decode": 0,
    "video.video_backend": "pyav",
    "video.extra_options": {},
    "is_depth_map": False,
}
"""How the videos are encoded, in the words of info.json."""


@dataclass(frozen=True, kw_only=True)
class EncodedCamera:
    """The frames of one camera in ``path``; ``sizes`` [F] are the bytes of each PNG image, None for a video."""

    path: Path
    sizes: NDArray[np.int64] | None
    statistics: Statistics


def clock_of(fps: float) -> Fraction:
    """Return ``fps`` as a ratio of whole numbers, which is what a video stores."""
    return Fraction(fps).limit_denominator(100_000)


def encode_episode(
    path: Path, source: Source, outgoing: Outgoing, start: Path, out: Path, fps: float | None, is_bgr: bool
) -> Generator[None, None, dict[str, EncodedCamera]]:
    """Encode the frames of each camera into a file whose path begins with ``start``; None as ``fps``: as PNG.

    Each yield reports progress. ``out`` is the folder that errors of the disk name.
    """
    encoded = {}
    for number, camera in enumerate(outgoing.spec.cameras):
        frames = rgb_frames(source, outgoing.recording, camera.name, is_bgr=is_bgr)
        target, counts = Path(f"{start}-{number}"), ImageCounts()
        with _disk_errors(out):
            if fps is None:
                sizes = yield from _write_pictures(target, frames, counts)
            else:
                sizes = None
                yield from _write_video(target, frames, counts, size=(camera.rows, camera.columns), fps=fps)
        encoded[camera.name] = EncodedCamera(path=target, sizes=sizes, statistics=counts.statistics())
    return encoded


@contextmanager
def _disk_errors(out: Path):
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        sentence = not_written(error, out, what="the exported data")
        if sentence is None:
            raise
        raise UserError(sentence) from error


def _write_pictures(target: Path, frames: Any, counts: ImageCounts) -> Generator[None, None, NDArray[np.int64]]:
    sizes = []
    with target.open("wb") as file:
        for image in frames:
            if image is None:
                yield
                continue
            counts.add(image)
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG", compress_level=_PNG_LEVEL)
            sizes.append(file.write(content.getbuffer()))
    return np.array(sizes, np.int64)


def _write_video(
    target: Path, frames: Any, counts: ImageCounts, *, size: tuple[int, int], fps: float
) -> Generator[None, None, None]:
    import av
    from av.video.reformatter import VideoReformatter

    converter = VideoReformatter()  # each frame would make one of its own, with a thread for each core
    rate = clock_of(fps)
    with target.open("wb") as file, av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options=dict(VIDEO_OPTIONS))
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the reading processes work in parallel, and each thread costs memory
        number = 0
        for image in frames:
            if image is None:
                yield
                continue
            counts.add(image)
            frame = converter.reformat(av.VideoFrame.from_ndarray(image, format="rgb24"), format="yuv420p", threads=1)
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
            number += 1
        container.mux(stream.encode(None))


def video_info(fps: float) -> Mapping[str, Any]:
    """Return how the videos are encoded, for info.json."""
    return {**VIDEO_INFO, "video.fps": int(fps) if fps == int(fps) else fps}
