"""Videos of recordings: the times of their frames, and the frames of one episode, through PyAV.

FFmpeg is given an open file and the name of the container: from a path it would also follow playlists and other formats
that name further files or addresses.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.contract import MAX_FRAME_PIXELS, MAX_FRAMES
from mobile_vla.data.sources.lerobot.errors import report_damage
from mobile_vla.errors import DataError
from mobile_vla.extras import load
from mobile_vla.untrusted.files import lfs_pointer, open_regular

TOLERANCE_S = 1e-4
"""What a time may be off beside half a frame: rows store times as float32. It is also lerobot's own tolerance."""

_BLOCK_BYTES = 16 * 2**20
_PROGRESS_S = 0.3
"""Processor time after which progress is reported; a reading process that is silent for 2.5 s is ended."""

_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}
"""FFmpeg otherwise makes up what damaged bytes should have shown.

Of 60 videos with three changed bytes each, the frames were decoded without an error and to other pixels in 0 (AV1), 3
(H.264), 5 (MPEG-4 part 2) and 51 (HEVC, which is rarely used here).
"""

_UNREADABLE = "is a truncated or corrupt video, or of a codec that FFmpeg does not decode"


@dataclass(frozen=True, kw_only=True)
class Video:
    """An open video. ``path`` is what errors name.

    ``start`` is the time stamp of its first frame, in units of ``tick_s`` seconds.
    """

    path: str
    container: Any
    stream: Any
    codec: str
    start: int
    tick_s: float
    rows: int
    columns: int

    def seconds(self, pts: int) -> float:
        """Return a time stamp in seconds since the first frame of the video."""
        return (pts - self.start) * self.tick_s

    def seek(self, start_s: float) -> None:
        """Go to the last key frame at or before ``start_s``."""
        self.container.seek(self.start + int(max(start_s, 0) / self.tick_s), stream=self.stream)


@contextmanager
def open_video(path: Path, *, named: str) -> Iterator[Video]:
    """Open a video; ``named`` is what errors begin with. Raises ``DataError`` where it is damaged or hostile."""
    load("av", "av.error", "av.video.reformatter", asked_by=named)
    import av
    from av.error import FFmpegError

    with report_damage(named, _UNREADABLE, also=(FFmpegError,)), open_regular(path) as raw:
        head = raw.read(40)
        raw.seek(0)
        with av.open(raw, format=_container_of(head, named), buffer_size=2**18) as container:
            if not container.streams.video:
                raise DataError(f"{named}: holds no video. Copy the file again or remove it.")
            stream = container.streams.video[0]
            # One thread: the reading processes work in parallel, and each thread costs memory.
            stream.codec_context.thread_count = 1
            stream.thread_type = "NONE"
            stream.codec_context.options = _STRICT
            if not 0 < stream.width * stream.height <= MAX_FRAME_PIXELS:
                raise DataError(
                    f"{named}: claims {stream.width}x{stream.height} px; expected at most {MAX_FRAME_PIXELS:,} pixels."
                )
            if stream.time_base is None:
                raise DataError(f"{named}: its frames have no times. Copy the file again or remove it.")
            yield Video(
                path=named,
                container=container,
                stream=stream,
                codec=stream.codec_context.codec.canonical_name,
                start=stream.start_time or 0,
                tick_s=float(stream.time_base),
                rows=stream.height,
                columns=stream.width,
            )


class OpenVideos:
    """The videos that are open while the episodes of one file are read: the last one of each camera.

    Episodes follow each other in a video, and opening it for each would read its index of frames each time.
    """

    def __init__(self) -> None:
        self._open: dict[str, tuple[Path, Video, ExitStack]] = {}

    def open(self, camera: str, path: Path, *, named: str) -> Video:
        """Return the open video; see ``open_video``."""
        if camera in self._open and self._open[camera][0] == path:
            return self._open[camera][1]
        self.close(camera)
        with ExitStack() as stack:
            video = stack.enter_context(open_video(path, named=named))
            self._open[camera] = (path, video, stack.pop_all())
        return video

    def close(self, camera: str | None = None) -> None:
        """Close the video of ``camera``; None: of all cameras."""
        for key in list(self._open) if camera is None else [camera] * (camera in self._open):
            self._open.pop(key)[2].close()


def _container_of(head: bytes, named: str) -> str:
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if pointer := lfs_pointer(head, instead_of="the video"):
        raise DataError(f"{named}: {pointer}")
    found = "is empty" if not head.strip(b"\0") else f"begins with {head[:12]!r}"
    raise DataError(f"{named}: {found}, so it is no MP4, Matroska or AVI file. Copy the file again or remove it.")


def frame_times(video: Video, span: tuple[float, float] | None, *, step_s: float) -> Generator[None, None, NDArray]:
    """Return the times in seconds of the frames in ``span`` (None: in the whole video), in order; nothing is decoded.

    Each yield reports progress.
    """
    times = []
    reported = time.process_time()
    with _errors(video):
        video.seek(0.0 if span is None else span[0] - step_s)
        for packet in video.container.demux(video.stream):
            if packet.pts is None or packet.is_discard:
                if packet.size and packet.pts is None:
                    raise DataError(f"{video.path}: has frames without a time. Write the video as MP4.")
                continue
            times.append(video.seconds(packet.pts))
            if len(times) > MAX_FRAMES:
                raise DataError(f"{video.path}: has more than {MAX_FRAMES:,} frames in one episode. Cut it.")
            # Packets come in the order of decoding, in which a frame is at most 16 frames from its place in time.
            if span is not None and packet.dts is not None and video.seconds(packet.dts) > span[1] + 2 * step_s:
                break
            if time.process_time() - reported > _PROGRESS_S:
                yield
                reported = time.process_time()
    found = np.sort(np.array(times, np.float64))
    return found if span is None else found[frames_between(found, span, step_s)]


def decode_frames(
    video: Video, span: tuple[float, float] | None, *, step_s: float, num_frames: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames in ``span`` (None: in the whole video) in blocks [frames of the block, Y, X, 3], RGB uint8.

    Blocks may be empty: they report progress. Raises ``DataError`` where the number of frames is not ``num_frames`` or
    one cannot be decoded as it was written.
    """
    from av.video.reformatter import VideoReformatter

    converter = VideoReformatter()  # each frame would make one of its own, with a thread for each core
    block: list[NDArray[np.uint8]] = []
    empty = np.zeros((0, video.rows, video.columns, 3), np.uint8)
    in_block = max(_BLOCK_BYTES // (video.rows * video.columns * 3), 1)
    num_done = 0
    reported = time.process_time()
    with _errors(video):
        for frame in _from_key_frame(video, None if span is None else span[0], step_s=step_s):
            seconds = np.array([video.seconds(frame.pts)])
            if span is not None and seconds[0] >= span[1] - step_s / 2:
                break
            if span is None or frames_between(seconds, span, step_s)[0]:
                num_done += 1
                if num_done > num_frames:
                    break
                block.append(_pixels(frame, video, converter, num_done - 1))
            if len(block) == in_block or time.process_time() - reported > _PROGRESS_S:
                yield np.stack(block) if block else empty
                reported, block = time.process_time(), []
    if num_done != num_frames:
        more = "more than " if num_done > num_frames else ""
        raise DataError(
            f"{video.path}: {more}{min(num_done, num_frames)} frames can be decoded for {num_frames} rows. "
            "Copy the file again or remove the episode."
        )
    if block:
        yield np.stack(block)


def _from_key_frame(video: Video, start_s: float | None, *, step_s: float) -> Iterator[Any]:
    """Yield the decoded frames from a key frame at or before ``start_s`` on."""
    if start_s is None or start_s <= step_s / 2:
        video.seek(0.0)
        yield from video.container.decode(video.stream)
        return
    video.seek(start_s)
    for index, frame in enumerate(video.container.decode(video.stream)):
        # FFmpeg seeks by the order of decoding, so the key frame can be after `start_s`: then from the beginning.
        if index == 0 and (frame.pts is None or video.seconds(frame.pts) > start_s + step_s / 2):
            break
        yield frame
    else:
        return
    video.seek(0.0)
    yield from video.container.decode(video.stream)


def _pixels(frame: Any, video: Video, converter: Any, index: int) -> NDArray[np.uint8]:
    if frame.is_corrupt:
        raise DataError(f"{video.path}: is damaged in frame {index}. Copy the file again or remove it.")
    if (frame.height, frame.width) != (video.rows, video.columns):
        raise DataError(
            f"{video.path}: frame {index} has {frame.width}x{frame.height} px, and the first {video.columns}x"
            f"{video.rows}. Write the video again with one size."
        )
    return converter.reformat(frame, format="rgb24", threads=1).to_ndarray()


@contextmanager
def _errors(video: Video) -> Iterator[None]:
    from av.error import FFmpegError

    with report_damage(video.path, _UNREADABLE, also=(FFmpegError,)):
        yield


def frames_between(times_s: NDArray[np.float64], span: tuple[float, float], step_s: float) -> NDArray[np.bool_]:
    """Return which of the times lie in ``span``, the start of the first frame to the end of the last.

    The bounds are moved by half a frame, so that rounding neither loses a frame nor takes one of the next episode.
    """
    return (times_s >= span[0] - step_s / 2) & (times_s < span[1] - step_s / 2)


def clock_finding(
    times_s: NDArray[np.float64], rows_s: NDArray[np.float64] | None, rate_hz: float
) -> tuple[str | None, str | None]:
    """Return (error, note) about frames at ``times_s`` for as many rows at ``rows_s``, which are paired in order.

    A frame belongs to its row where their times, from the start of the episode, differ by at most half a frame. Where
    they differ more and frames are missing in the middle of the video, later frames belong to other rows: an error.
    Where the frames are evenly spaced, the rows' clock is another (29.97 frames a second called 30, or the time of the
    robot): a note.
    """
    if rows_s is None or len(rows_s) < 2 or (np.diff(rows_s) <= 0).any():
        return None, None
    off_s = np.abs((times_s - times_s[0]) - (rows_s - rows_s[0]))
    if off_s.max() <= 0.5 / rate_hz + TOLERANCE_S:
        return None, None
    steps = np.diff(times_s)
    if (steps > 1.5 * np.median(steps)).any():
        row = int(np.argmax(off_s > 0.5 / rate_hz + TOLERANCE_S))
        return (
            f"its frame {row} is at {times_s[row] - times_s[0]:.3f} s and the row at {rows_s[row] - rows_s[0]:.3f} s",
            None,
        )
    return None, "frames and rows are paired in order, as the times of video and rows differ by more than half a frame"
