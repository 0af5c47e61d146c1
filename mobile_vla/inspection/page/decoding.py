"""Decode what the page shows of one camera, in a reading process: small JPEGs, and what the frames look like."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobile_vla.data.sources.contract import Recording, Source
from mobile_vla.errors import DataError

_LOOK = 48
"""Rows and columns of the picture in which frames are compared.

A cell is the mean over 13x10 pixels of 640x480: noise of a video's coding vanishes, and a gripper that moves by a few
pixels changes it by several values of 255.
"""

_DARK = 16
"""Highest value (of 255) of a black frame; a lossy codec does not give back exact zeros."""

_FLAT = 4
"""Largest difference between two places of a frame of one colour."""

_SAME = 1
"""Largest difference between a frame and its predecessor that shows the same."""

_FRAMES_PER_STEP = 32
"""Frames between two reports of progress, which take a tenth of the processor time that a worker may have."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which pictures are made of the first ``num_frames`` frames of a camera.

    ``strip_rows`` are the frames of the strip, none for an episode that is not played. The widths are the largest
    number of columns and of rows of a picture. ``is_bgr`` is whether red and blue are swapped in the recording.
    """

    num_frames: int
    strip_rows: tuple[int, ...]
    sheet_width: int
    strip_width: int
    is_bgr: bool


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What F frames of one camera look like.

    ``is_dark_F`` and ``is_flat_F``: black, and one colour all over. ``is_same_F``: shows the same as its predecessor.
    ``change_F`` is the mean absolute difference to it, of 255; 0 for the first.
    """

    is_dark_F: NDArray[np.bool_]
    is_flat_F: NDArray[np.bool_]
    is_same_F: NDArray[np.bool_]
    change_F: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.change_F)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures of one camera of an episode, as JPEGs in RGB.

    ``sheet`` has those of ``sheet_rows``, the first, middle and last frame that were decoded; ``strip`` has the smaller
    ones of the rows that were wanted.
    """

    sheet: Sequence[bytes]
    sheet_rows: Sequence[int]
    strip: Sequence[bytes]
    looks: Looks


def looks_of(frames: Iterable[NDArray[np.uint8]]) -> Looks:
    """Return what ``frames`` [Y, X, 3] look like."""
    collected = _Looks()
    for frame in frames:
        collected.add(frame)
    return collected.result()


def decode_pictures(
    path: Path, source: Source, recording: Recording, camera: str, wanted: Wanted
) -> Generator[None, None, Pictures]:
    """Return the pictures of ``camera``; called in a reading process. Each yield reports progress."""
    sheet_rows = sorted({0, wanted.num_frames // 2, wanted.num_frames - 1})
    sheet, strip, looks = [], [], _Looks()
    strip_rows = set(wanted.strip_rows)
    for row, frame in enumerate(_first_frames(source.frames(recording, camera), wanted.num_frames)):
        frame_YXC = frame[..., ::-1] if wanted.is_bgr else frame
        looks.add(frame_YXC)
        if row in strip_rows:
            strip.append(_jpeg(frame_YXC, wanted.strip_width))
        if row in sheet_rows:
            sheet.append(_jpeg(frame_YXC, wanted.sheet_width))
        if row % _FRAMES_PER_STEP == 0:
            yield
    if len(sheet) < len(sheet_rows):
        raise DataError(f"{path}: {camera} has fewer frames than actions, {wanted.num_frames} were expected.")
    return Pictures(sheet=sheet, sheet_rows=sheet_rows, strip=strip, looks=looks.result())


def _first_frames(blocks: Iterable[NDArray[np.uint8]], num_frames: int) -> Iterator[NDArray[np.uint8]]:
    left = num_frames
    for block in blocks:
        yield from block[:left]
        left -= len(block)
        if left <= 0:
            return


class _Looks:
    """The looks of the frames that were added so far, and the last of them."""

    def __init__(self) -> None:
        self._rows: list[tuple[bool, bool, bool, float]] = []
        self._last: NDArray[np.int16] | None = None

    def add(self, frame_YXC: NDArray[np.uint8]) -> None:
        small = np.asarray(_picture(frame_YXC).resize((_LOOK, _LOOK), Image.Resampling.BOX), np.int16)
        difference = np.abs(small - self._last) if self._last is not None else None
        self._rows.append(
            (
                bool(small.max() <= _DARK),
                bool(np.ptp(small.reshape(-1, 3), axis=0).max() <= _FLAT),
                difference is not None and bool(difference.max() <= _SAME),
                0.0 if difference is None else float(difference.mean()),
            )
        )
        self._last = small

    def result(self) -> Looks:
        dark, flat, same, change = (
            (list(column) for column in zip(*self._rows, strict=True)) if self._rows else [[]] * 4
        )
        return Looks(
            is_dark_F=np.array(dark, bool),
            is_flat_F=np.array(flat, bool),
            is_same_F=np.array(same, bool),
            change_F=np.array(change, np.float32),
        )


def _picture(frame_YXC: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(frame_YXC))


def _jpeg(frame_YXC: NDArray[np.uint8], width: int) -> bytes:
    picture = _picture(frame_YXC)
    scale = min(width / picture.width, width / picture.height, 1)
    if scale < 1:
        size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return encode_jpeg(picture)


def encode_jpeg(picture: Image.Image) -> bytes:
    """Return ``picture`` as a JPEG; a tiny one keeps the full resolution of its colours."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=78, optimize=True, subsampling=0 if picture.width <= 128 else 2)
    return file.getvalue()
