"""The frame cache: every frame decoded and resized once, in one memory-mapped uint8 array that all runs share."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from mobile_vla.data.digests import digest_recordings
from mobile_vla.data.reading.process import Request, ask_each
from mobile_vla.data.sources.contract import Recording, Source
from mobile_vla.errors import ConfigError, DataError, UnreadableNowError
from mobile_vla.process.progress_bar import track
from mobile_vla.storage.build_once import build_once, check_free_space, is_built
from mobile_vla.storage.disk import allocate

_log = logging.getLogger(__name__)

CACHE_VERSION = 2
"""Part of every cache key. Increase it when a code change makes the same settings give different pixels."""


WRITTEN_MEANWHILE = "was written while it was read. Start again when the program that writes it has closed it."
"""What is said of a recording whose content changed between its reading and the decoding of its frames."""


Side = Annotated[int, Field(gt=0, le=8192)]
"""Number of rows or columns of the policy's image, in pixels."""


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The conversion of a recorded frame to the policy's image; serving must use the same options.

    ``size`` is (rows, columns) in pixels. ``direct`` stretches the frame to this size; ``letterbox`` keeps its aspect
    ratio and fills the rest with black. ``channel_order`` is that of the files; the policy's images are always RGB.
    """

    size: tuple[Side, Side]
    resize: Literal["direct", "letterbox"]
    channel_order: Literal["rgb", "bgr"]


@dataclass(frozen=True, kw_only=True)
class FrameStore:
    """All frames of a data set: RGB uint8 images [F, Y, X, C] of each camera, memory-mapped.

    ``cameras`` are the images by camera name, in the order in which policies get them. ``first_row`` is the first row
    of each episode by name. ``key`` is a digest of the files' content and the settings.
    """

    cameras: Mapping[str, NDArray[np.uint8]]
    first_row: Mapping[str, int]
    key: str

    @classmethod
    def without_pixels(cls, recordings: Sequence[Recording]) -> FrameStore:
        """Return a store without a camera, for reports that look at no image."""
        return cls(cameras={}, first_row=_row_by_name(recordings), key="")


def _first_rows(recordings: Sequence[Recording]) -> list[int]:
    """Return the row at which each recording begins in a store of all of them, and at last their number of rows."""
    return np.cumsum([0, *(recording.num_frames for recording in recordings)]).tolist()


def _row_by_name(recordings: Sequence[Recording]) -> dict[str, int]:
    rows = _first_rows(recordings)
    return {recording.name: row for recording, row in zip(recordings, rows, strict=False)}


def prepare_image(image_YXC: NDArray[np.uint8], options: ImageOptions) -> NDArray[np.uint8]:
    """Return the policy's RGB image of ``options.size`` for one recorded frame [Y, X, 3] (antialiased bilinear)."""
    if options.channel_order == "bgr":
        image_YXC = image_YXC[..., ::-1]
    rows, columns = options.size
    height, width = image_YXC.shape[:2]
    if (height, width) == (rows, columns):
        return np.ascontiguousarray(image_YXC)
    if options.resize == "direct":
        return _resize(image_YXC, rows, columns)
    scale = min(rows / height, columns / width)
    inner_rows, inner_columns = max(round(height * scale), 1), max(round(width * scale), 1)
    top, left = (rows - inner_rows) // 2, (columns - inner_columns) // 2
    canvas = np.zeros((rows, columns, 3), np.uint8)
    canvas[top : top + inner_rows, left : left + inner_columns] = _resize(image_YXC, inner_rows, inner_columns)
    return canvas


def _resize(image_YXC: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    # Pillow's resize averages over all source pixels when it shrinks; torch's default bilinear does not and aliases.
    picture = Image.fromarray(np.ascontiguousarray(image_YXC))
    return np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR))


def open_frames(
    source: Source,
    recordings: Sequence[Recording],
    *,
    cameras: Sequence[str],
    options: ImageOptions,
    digests: Mapping[str, str],
    cache_dir: Path,
    num_workers: int,
) -> tuple[FrameStore, dict[str, DataError]]:
    """Return the frames of ``recordings``, and by name the error of each recording that could not be decoded.

    The cache of each camera is built first where it is missing. Its key covers the files' content, the camera and
    ``options``; several runs that start together build it once. The frames of a recording that could not be decoded
    are black: the caller must not use that recording.
    """
    readable = list(recordings)
    unreadable: dict[str, DataError] = {}
    while True:
        try:
            opened = [
                _open_camera(
                    camera,
                    source=source,
                    recordings=readable,
                    options=options,
                    digests=digests,
                    cache_dir=cache_dir,
                    num_workers=num_workers,
                )
                for camera in cameras
            ]
            break
        except _UnreadableFilesError as found:
            # The next run may be able to read these files, so no cache may record them as bad: the caches are built
            # without them.
            unreadable |= found.problems
            readable = [recording for recording in readable if recording.name not in unreadable]
    problems = {name: problem for _, _, found in opened for name, problem in found.items()}
    store = FrameStore(
        cameras={camera: images for camera, (images, _, _) in zip(cameras, opened, strict=True)},
        first_row=_row_by_name(readable),
        key="-".join(folder.name for _, folder, _ in opened),
    )
    return store, problems | unreadable


def is_decoded(
    recordings: Sequence[Recording],
    *,
    cameras: Sequence[str],
    options: ImageOptions,
    digests: Mapping[str, str],
    cache_dir: Path,
) -> bool:
    """Return whether the cache of every camera stands, so that ``open_frames`` decodes nothing."""
    return all(
        is_built(_cache_folder(cache_dir, camera, recordings, options=options, digests=digests)) for camera in cameras
    )


def _cache_folder(
    cache_dir: Path,
    camera: str,
    recordings: Sequence[Recording],
    *,
    options: ImageOptions,
    digests: Mapping[str, str],
) -> Path:
    key = json.dumps([CACHE_VERSION, camera, asdict(options), [(r.name, digests[r.name]) for r in recordings]])
    return cache_dir / f"frames-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"


def _open_camera(
    camera: str,
    *,
    source: Source,
    recordings: Sequence[Recording],
    options: ImageOptions,
    digests: Mapping[str, str],
    cache_dir: Path,
    num_workers: int,
) -> tuple[NDArray[np.uint8], Path, dict[str, DataError]]:
    """Return the images [F, Y, X, C] of one camera, the folder of their cache, and the errors by recording."""
    folder = _cache_folder(cache_dir, camera, recordings, options=options, digests=digests)
    first_rows = _first_rows(recordings)
    build = partial(
        _build,
        camera=camera,
        source=source,
        recordings=recordings,
        first_rows=first_rows,
        options=options,
        digests=digests,
        cache_dir=cache_dir,
        num_workers=num_workers,
    )
    build_once(folder, build)
    findings = json.loads((folder / "problems.json").read_text())
    problems = {r.name: DataError(f"{r.path}: {findings[r.name]}") for r in recordings if r.name in findings}
    images = np.memmap(folder / "frames.u8", np.uint8, mode="r", shape=(first_rows[-1], *options.size, 3))
    return images, folder, problems


class _UnreadableFilesError(Exception):
    """Some recordings, by name, could not be read for a cause outside their files."""

    def __init__(self, problems: Mapping[str, DataError]) -> None:
        super().__init__(problems)
        self.problems = dict(problems)


def _build(
    folder: Path,
    *,
    camera: str,
    source: Source,
    recordings: Sequence[Recording],
    first_rows: Sequence[int],
    options: ImageOptions,
    digests: Mapping[str, str],
    cache_dir: Path,
    num_workers: int,
) -> None:
    shape = (first_rows[-1], *options.size, 3)
    check_free_space(folder, math.prod(shape), what="the decoded frames", remedy="choose a smaller dataset.image_size")
    frames = folder / "frames.u8"
    # At least 1 byte: an empty file cannot be mapped. The file is all zeros, so frames that are not decoded stay black.
    allocate(frames, max(math.prod(shape), 1))
    requests = [
        Request(work=decode_into, path=recording.path, arguments=(source, recording, camera, frames, row, options))
        for recording, row in zip(recordings, first_rows, strict=False)
    ]
    answers = ask_each(requests, num_processes=num_workers)
    problems = {
        recordings[index].name: problem
        for index, problem in track(answers, description="decoding episodes", total=len(recordings))
        if problem is not None
    }
    unreadable = {name: problem for name, problem in problems.items() if isinstance(problem, UnreadableNowError)}
    # The digests are computed again: the cache's key names the content before decoding, and a recorder that wrote to a
    # file meanwhile would leave frames in the cache that do not belong to that content.
    after = digest_recordings([r for r in recordings if r.name not in unreadable], cache_dir=cache_dir)
    for recording in recordings:
        if recording.name in after and after[recording.name] != digests[recording.name]:
            unreadable[recording.name] = UnreadableNowError(f"{recording.path}: {WRITTEN_MEANWHILE}")
    if unreadable:
        raise _UnreadableFilesError(unreadable)
    # The messages are stored without the path, because the same content may be in another folder next time, and in the
    # order of the recordings, because the answers of the workers come in any order.
    findings = {r.name: str(problems[r.name]).removeprefix(f"{r.path}: ") for r in recordings if r.name in problems}
    (folder / "problems.json").write_text(json.dumps(findings))


def decode_into(
    path: Path,
    source: Source,
    recording: Recording,
    camera: str,
    frames: Path,
    first_row: int,
    options: ImageOptions,
) -> Generator[None, None, None]:
    """Decode one camera of a recording into the file ``frames``, starting at ``first_row``, in blocks.

    It is called in a reading process; each yield reports progress. The frames are written with ``write`` and not
    through a memory map, because a map of all frames counts as more memory than a reading process may have.
    """
    num_done = 0
    with frames.open("r+b") as file:
        file.seek(first_row * math.prod(options.size) * 3)
        for block in source.frames(recording, camera):
            num_done += len(block)
            if num_done > recording.num_frames:
                break  # the following rows belong to the next recording
            _write(file, (prepare_image(image, options) for image in block), frames)
            yield
    if num_done != recording.num_frames:
        raise UnreadableNowError(f"{path}: {WRITTEN_MEANWHILE}")


def _write(file: BinaryIO, images: Iterable[NDArray[np.uint8]], frames: Path) -> None:
    try:
        for image in images:
            file.write(image.data)
        file.flush()
    except OSError as error:
        raise ConfigError(
            f"dataset.cache_dir={frames.parents[1]}: the decoded frames cannot be written ({error.strerror}). Make "
            "room, move the cache, or choose a smaller dataset.image_size."
        ) from error
