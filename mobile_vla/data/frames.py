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

from mobile_vla.data.hdf5.recording import read_blocks
from mobile_vla.data.reading.process import Request, ask_each
from mobile_vla.errors import ConfigError, DataError, UnreadableNowError
from mobile_vla.process.progress_bar import track
from mobile_vla.schema import Episode
from mobile_vla.storage.build_once import build_once, check_free_space, digest_of
from mobile_vla.storage.disk import allocate, write_atomically

_log = logging.getLogger(__name__)

CACHE_VERSION = 1
"""Part of every cache key. Increase it when a code change makes the same settings give different pixels."""


_WRITTEN_MEANWHILE = "was written while it was read. Start again when the program that writes it has closed it."


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
    """All frames of a data set: RGB uint8 ``images_FYXC``, memory-mapped, and each episode's first row by name.

    ``folder`` is the cache folder of the frames; its name contains a digest of the files' content and the settings.
    """

    images_FYXC: NDArray[np.uint8]
    first_row: Mapping[str, int]
    folder: Path


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


def digest_files(paths: Sequence[Path], *, cache_dir: Path) -> dict[str, str]:
    """Return the content digest of each file, by its stem; a file is read again only when its status changed.

    The digests are stored in ``cache_dir``. If that store is damaged or cannot be written, the only cost is time: the
    files are read again.
    """
    memo_path = cache_dir / "file_digests.json"
    memo = _read_memo(memo_path)
    keys = {}
    for path in paths:
        status = path.stat()
        # The change time is part of the key because any program can set the modification time back, but not this one.
        keys[path] = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"
    unread = [(key, path) for path, key in keys.items() if key not in memo]
    fresh = {key: digest_of(path) for key, path in track(unread, description="reading episode files")}
    if fresh:
        memo |= fresh
        _write_memo(memo_path, memo)
    return {path.stem: memo[key] for path, key in keys.items()}


def _read_memo(path: Path) -> dict[str, str]:
    """Return the digests stored in ``path``, or none where the file is missing or damaged (which is logged)."""
    try:
        content = json.loads(path.read_bytes())
        memo = content["files"]
        is_whole = content["digest"] == _digest_memo(memo)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        is_whole, memo = False, {}
    if not is_whole:
        _log.warning("%s: is damaged or of another version. All episode files are read again.", path)
    return memo if is_whole else {}


def _digest_memo(memo: Mapping[str, str]) -> str:
    return hashlib.blake2b(json.dumps(memo).encode(), digest_size=16).hexdigest()


def _write_memo(path: Path, memo: Mapping[str, str]) -> None:
    """Store ``memo`` in ``path``; a failure is only logged, because the next run can read the files again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"digest": _digest_memo(memo), "files": memo}).encode())
    except OSError as error:
        _log.warning("%s: cannot be written (%s). The next run reads all files again.", path, error.strerror)


def open_frames(
    episodes: Sequence[Episode], *, options: ImageOptions, digests: Mapping[str, str], cache_dir: Path, num_workers: int
) -> tuple[FrameStore, dict[str, DataError]]:
    """Return the frames of ``episodes``, and by name the error of each episode that could not be decoded.

    The cache is built first where it is missing. Its key covers the files' content and ``options``; several runs that
    start together build it once. The frames of an episode that could not be decoded are black: the caller must not use
    that episode.
    """
    key = json.dumps([CACHE_VERSION, asdict(options), [(e.name, digests[e.name]) for e in episodes]])
    folder = cache_dir / f"frames-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"
    first_rows = np.cumsum([0, *(e.num_frames for e in episodes)]).tolist()
    shape = (first_rows[-1], *options.size, 3)
    build = partial(
        _build,
        episodes=episodes,
        first_rows=first_rows,
        options=options,
        digests=digests,
        cache_dir=cache_dir,
        num_workers=num_workers,
    )
    try:
        build_once(folder, build)
    except _UnreadableFilesError as found:
        # The next run may be able to read these files, so no cache may record them as bad: the cache is built without
        # them.
        rest = [e for e in episodes if e.name not in found.problems]
        store, problems = open_frames(
            rest, options=options, digests=digests, cache_dir=cache_dir, num_workers=num_workers
        )
        return store, problems | found.problems
    findings = json.loads((folder / "problems.json").read_text())
    problems = {e.name: DataError(f"{e.path}: {findings[e.name]}") for e in episodes if e.name in findings}
    images = np.memmap(folder / "frames.u8", np.uint8, mode="r", shape=shape)
    store = FrameStore(
        images_FYXC=images,
        first_row={e.name: row for e, row in zip(episodes, first_rows, strict=False)},
        folder=folder,
    )
    return store, problems


class _UnreadableFilesError(Exception):
    """Some episodes, by name, could not be read for a cause outside their files."""

    def __init__(self, problems: Mapping[str, DataError]) -> None:
        super().__init__(problems)
        self.problems = dict(problems)


def _build(
    folder: Path,
    *,
    episodes: Sequence[Episode],
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
        Request(work=decode_into, path=episode.path, arguments=(episode.num_frames, frames, row, options))
        for episode, row in zip(episodes, first_rows, strict=False)
    ]
    answers = ask_each(requests, num_processes=num_workers)
    problems = {
        episodes[index].name: problem
        for index, problem in track(answers, description="decoding episodes", total=len(episodes))
        if problem is not None
    }
    unreadable = {name: problem for name, problem in problems.items() if isinstance(problem, UnreadableNowError)}
    # The digests are computed again: the cache's key names the content before decoding, and a recorder that wrote to a
    # file meanwhile would leave frames in the cache that do not belong to that content.
    after = digest_files([e.path for e in episodes if e.name not in unreadable], cache_dir=cache_dir)
    for episode in episodes:
        if episode.name in after and after[episode.name] != digests[episode.name]:
            unreadable[episode.name] = UnreadableNowError(f"{episode.path}: {_WRITTEN_MEANWHILE}")
    if unreadable:
        raise _UnreadableFilesError(unreadable)
    # The messages are stored without the path, because the same content may be in another folder next time, and in the
    # order of the episodes, because the answers of the workers come in any order.
    findings = {e.name: str(problems[e.name]).removeprefix(f"{e.path}: ") for e in episodes if e.name in problems}
    (folder / "problems.json").write_text(json.dumps(findings))


def decode_into(
    path: Path, num_frames: int, frames: Path, first_row: int, options: ImageOptions
) -> Generator[None, None, None]:
    """Decode one episode into the file ``frames``, starting at ``first_row``, in blocks; called in a reading process.

    Each yield reports progress. The frames are written with ``write`` and not through a memory map, because a map of
    all frames counts as more memory than a reading process may have.
    """
    num_done = 0
    with frames.open("r+b") as file:
        file.seek(first_row * math.prod(options.size) * 3)
        for block in read_blocks(path):
            num_done += len(block)
            if num_done > num_frames:
                break  # the following rows belong to the next episode
            _write(file, (prepare_image(image, options) for image in block), frames)
            yield
    if num_done != num_frames:
        raise UnreadableNowError(f"{path}: {_WRITTEN_MEANWHILE}")


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
