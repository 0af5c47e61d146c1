"""The cameras of an episode: where their frames are, how many, and how large; nothing is decoded."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobile_vla.data.sources.lerobot.images import (
    REMEDY,
    first_picture,
    names_in_table,
    picture_files,
    pictures_in_files,
)
from mobile_vla.data.sources.lerobot.info import Info
from mobile_vla.data.sources.lerobot.places import place_in
from mobile_vla.data.sources.lerobot.rows import Rows
from mobile_vla.data.sources.lerobot.video import OpenVideos, clock_finding, frame_times
from mobile_vla.data.sources.pictures import picture_size
from mobile_vla.errors import DataError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_SAME_CODEC = {
    "libsvtav1": "av1",
    "libaom-av1": "av1",
    "mp4v": "mpeg4",
    "h265": "hevc",
    "libx264": "h264",
    "avc1": "h264",
}
"""The names of encoders and containers for a codec."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the frames of a camera are: ``files`` beside the table, and ``part``, made of JSON values; see ``source``.

    ``size`` is (rows, columns) in pixels.
    """

    size: tuple[int, int]
    part: Mapping[str, Any]
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def read_video(
    videos: OpenVideos,
    folder: Path,
    path: Path,
    *,
    camera: Mapping[str, str],
    told: Mapping[str, Any],
    rows: Rows,
    info: Info,
) -> Generator[None, None, Place]:
    """Return the place of a camera in the video ``told["file"]``; each yield reports progress.

    ``told["span"]`` are the seconds from which and to which the episode is in it; None: the whole video is the episode.
    ``path`` is the episode's parquet file. Raises ``DataError`` where the video has another number of frames than
    ``rows``, or where its frames are at other times.
    """
    file = place_in(folder, told["file"])
    video = videos.open(camera["key"], file, named=f"{path}: {told['file']}")
    rate_hz = rows.rate_hz or (float(video.stream.average_rate) if video.stream.average_rate else None)
    if rate_hz is None:
        raise DataError(
            f"{video.path}: states no rate, and {path.name} and info.json do not either. Add fps to info.json."
        )
    span = None if told["span"] is None else (told["span"][0], told["span"][1])
    times_s = yield from frame_times(video, span, step_s=1 / rate_hz)
    num_rows = len(rows.actions)
    if len(times_s) != num_rows:
        between = "" if span is None else f" between {span[0]:.3f} and {span[1]:.3f} s"
        raise DataError(
            f"{video.path}: has {len(times_s)} frames{between} for {num_rows} rows. Copy the file again or remove the "
            "episode."
        )
    error, note = clock_finding(times_s, rows.times_s, rate_hz)
    if error:
        raise DataError(f"{video.path}: {error}: frames are missing. Copy the file again or remove the episode.")
    notes = [note] if note else []
    codec = info.features[camera["key"]].codec if camera["key"] in info.features else None
    if codec is not None and _SAME_CODEC.get(codec, codec) != video.codec:
        notes.append(f"info.json says that '{camera['name']}' is {codec}, and the video is {video.codec}")
    part = {"span": told["span"], "step_s": 1 / rate_hz}
    return Place(size=(video.rows, video.columns), part=part, files=(file,), notes=tuple(notes))


def read_pictures(
    table: ParquetFile,
    folder: Path,
    path: Path,
    *,
    key: str,
    in_table: bool,
    episode: int,
    span: tuple[int, int],
    rows: Rows,
) -> Generator[None, None, Place]:
    """Return the place of a camera whose frames are pictures: in the table's column ``key``, or in files.

    ``span`` are the rows of the episode in the table. Each yield reports progress.
    """
    num_rows = len(rows.actions)
    names: list[str | None] = []
    if in_table:
        size, _ = first_picture(table, path, key, span[0])
        if size is not None:
            return Place(size=(size[1], size[0]), part={"column": key})
        for piece in names_in_table(table, path, key, span):
            names += piece
            yield
    frames = range(num_rows) if rows.frame_index is None else [int(frame) for frame in rows.frame_index]
    files = picture_files(folder, key, episode, frames, names or [None] * num_rows)
    content, place = next(pictures_in_files(files[:1], path))
    size = picture_size(content, place=place, remedy=REMEDY)
    return Place(size=(size[1], size[0]), part={"pictures": num_rows}, files=tuple(files))
