"""The cameras of a folder, and where the frames of an episode are and how large; nothing is decoded."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mobile_vla.data.reading.process import ask
from mobile_vla.data.sources.lerobot.images import (
    REMEDY,
    first_picture,
    names_in_table,
    picture_files,
    pictures_in_files,
)
from mobile_vla.data.sources.lerobot.info import INFO, Info
from mobile_vla.data.sources.lerobot.places import Files, key_of_video, place_in, short_key
from mobile_vla.data.sources.lerobot.rows import Rows
from mobile_vla.data.sources.lerobot.tables import describe_columns
from mobile_vla.data.sources.lerobot.video import OpenVideos, clock_finding, frame_times
from mobile_vla.data.sources.pictures import picture_size
from mobile_vla.errors import DataError, UnreadableNowError
from mobile_vla.spec import clean_names

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


_MAX_TRIED = 8
"""Maximum number of tables that are opened to see the columns; the first is enough unless it is damaged."""


@dataclass(frozen=True, kw_only=True)
class CameraPlace:
    """A camera: the key of its feature, its name, and how its frames are stored."""

    key: str
    name: str
    kind: Literal["video", "pictures"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the frames of a camera are: ``files`` beside the table, and ``part``, made of JSON values; see ``source``.

    ``size`` is (rows, columns) in pixels.
    """

    size: tuple[int, int]
    part: Mapping[str, Any]
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def camera_folders(folder: Path, files: Files) -> list[str]:
    """Return the keys of the cameras that the folders of videos and pictures are named after, sorted.

    These are ``videos/chunk-000/KEY`` (v2), ``videos/KEY/chunk-000`` (v3) and ``images/KEY``.
    """
    keys = {key for path in files.paths if (key := key_of_video(path)) is not None}
    try:
        keys |= {entry.name for entry in (folder / "images").iterdir() if entry.name[0] != "." and entry.is_dir()}
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UnreadableNowError(
            f"{folder / 'images'}: the folder cannot be read ({error.strerror}). Give the permission (chmod u+rx)."
        ) from error
    return sorted(keys)


def pictures_in(folder: Path, files: Files) -> list[str]:
    """Return the columns with pictures of the first table that can be read; reading them reports those that cannot."""
    for name in files.tables[:_MAX_TRIED]:
        try:
            columns = ask(describe_columns, Path(folder, name))
        except DataError:
            continue
        return [column.name for column in columns if column.kind == "picture"]
    return []


def cameras_of(
    folder: Path, info: Info, keys: Sequence[str], files: Files, with_video: Set[str]
) -> tuple[list[CameraPlace], list[str]]:
    """Return the cameras with frames, and warnings about the others; raises ``DataError`` where none has any.

    ``with_video`` are the keys of which an episode has a video.
    """
    pictures = set(pictures_in(folder, files)) if set(keys) - with_video else set()
    found, warnings = [], []
    for key in keys:
        if key in info.features and info.features[key].is_depth:
            warnings.append(f"the camera '{short_key(key)}' is left out: it holds depth, not colour")
        elif key in with_video and key not in pictures:
            found.append((key, "video"))
        elif key in pictures or (folder / "images" / key).is_dir():
            found.append((key, "pictures"))
        else:
            lacks = f"{INFO} declares it, and none of its files is there"
            lacks = lacks if key in info.features else "none of its files belongs to an episode"
            warnings.append(f"the camera '{short_key(key)}' is left out: {lacks}")
    if not found:
        raise DataError(
            f"{folder}: has no frames of a camera{''.join(f'; {warning}' for warning in warnings)}. Copy its videos or "
            "images."
        )
    names = clean_names(short_key(key) for key, _ in found)
    return [
        CameraPlace(key=key, name=name, kind=kind) for name, (key, kind) in zip(names, found, strict=True)
    ], warnings


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
