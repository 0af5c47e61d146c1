"""Pictures of recordings: inside a parquet column, or as files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.blocks import in_blocks
from mobile_vla.data.sources.lerobot.errors import report_damage
from mobile_vla.data.sources.lerobot.places import place_in
from mobile_vla.data.sources.lerobot.tables import batches, open_table
from mobile_vla.data.sources.pictures import Size, decode_picture, in_pixels, picture_size
from mobile_vla.errors import DataError
from mobile_vla.untrusted.files import read_limited

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

REMEDY = "Copy it again or remove the episode."

_ROW_BYTES = 512 * 2**10
"""Expected size of a row with a picture. Pieces of a table are cut by it: 16 rows, and 100 MB where a picture has 6."""

_MAX_BYTES = 64 * 2**20

_SUFFIXES = (".png", ".jpg", ".jpeg")


def first_picture(table: ParquetFile, path: Path, key: str, row: int) -> tuple[Size | None, str | None]:
    """Return the size of the picture in ``row`` of the column ``key``; or else the name of the file that it is in."""
    with report_damage(path, f"column '{key}' cannot be read"):
        for batch in batches(table, path, [key], (row, row + 1), row_bytes=_ROW_BYTES):
            content, name = _bytes_of(batch[key][0].as_py())
            if content is not None:
                return picture_size(content, place=f"{path}: '{key}' in row {row}", remedy=REMEDY), None
            return None, name
    raise DataError(f"{path}: column '{key}' has no row {row}. {REMEDY}")


def pictures_in_table(path: Path, key: str, rows: tuple[int, int]) -> Iterator[tuple[bytes, str]]:
    """Yield the content of the picture of each row, with the place that errors name."""
    with open_table(path) as table:
        row = rows[0]
        for batch in batches(table, path, [key], rows, row_bytes=_ROW_BYTES):
            for value in batch[key]:
                place = f"{path}: '{key}' in row {row}"
                content, _ = _bytes_of(value.as_py())
                if content is None:
                    raise DataError(f"{place} has no picture. {REMEDY}")
                yield content, place
                row += 1


def pictures_in_files(paths: Sequence[Path], recording: Path) -> Iterator[tuple[bytes, str]]:
    """Yield the content of each picture's file, with the place that errors name: ``recording`` and the file."""
    for path in paths:
        with report_damage(f"{recording}: {path}", "cannot be read"):
            content = read_limited(path, max_bytes=_MAX_BYTES)
        yield content, f"{recording}: {path}"


def decoded(pictures: Iterator[tuple[bytes, str]], *, size: Size, num_frames: int) -> Iterator[NDArray[np.uint8]]:
    """Yield ``pictures`` in blocks [frames of the block, Y, X, 3], RGB uint8.

    Raises ``DataError`` where one cannot be decoded, or has another size than ``size``, (columns, rows).
    """
    yield from in_blocks(_pixels(pictures, size=size, num_frames=num_frames))


def _pixels(pictures: Iterator[tuple[bytes, str]], *, size: Size, num_frames: int) -> Iterator[NDArray[np.uint8]]:
    columns, rows = size
    num_done = 0
    for content, place in pictures:
        pixels = decode_picture(content, place=place, remedy=REMEDY)
        if pixels.shape[:2] != (rows, columns):
            found = in_pixels((pixels.shape[1], pixels.shape[0]))
            raise DataError(f"{place} has {found} px, and the first {in_pixels(size)}. {REMEDY}")
        num_done += 1
        yield pixels
    if num_done != num_frames:
        raise DataError(f"{num_done} pictures for {num_frames} rows. {REMEDY}")


def picture_files(
    folder: Path, key: str, episode: int, frames: Sequence[int], names: Sequence[str | None]
) -> list[Path]:
    """Return the file of each frame of an episode; raises ``DataError`` where one is missing.

    ``names`` are those that a table gives, each in the folder of the data set; where it gives none, the file is in
    ``images/KEY/episode_N``, numbered by ``frames``.
    """
    # v3 writes the numbers with a dash.
    places = [
        (place, separator)
        for separator in ("_", "-")
        if (place := place_in(folder, f"images/{key}/episode{separator}{episode:06d}")).is_dir()
    ]
    found = []
    for frame, name in zip(frames, names, strict=True):
        options = [] if name is None else [_told(folder, name)]
        options += [
            place / f"frame{separator}{frame:06d}{suffix}" for place, separator in places for suffix in _SUFFIXES
        ]
        path = next((option for option in options if option is not None and option.is_file()), None)
        if path is None:
            raise DataError(
                f"{folder / 'images' / key}: has no picture of frame {frame} of episode {episode}. Copy it again or "
                "remove the episode."
            )
        found.append(path)
    return found


def _told(folder: Path, name: str) -> Path | None:
    """Return the file that a table names; None where it is elsewhere, such as on the machine that recorded it."""
    try:
        return place_in(folder, name)
    except DataError:
        return None


def names_in_table(table: ParquetFile, path: Path, key: str, rows: tuple[int, int]) -> Iterator[list[str | None]]:
    """Yield the file names of the pictures of ``rows``, in pieces."""
    for batch in batches(table, path, [key], rows, row_bytes=_ROW_BYTES):
        yield [_bytes_of(value.as_py())[1] for value in batch[key]]


def _bytes_of(value: Any) -> tuple[bytes | None, str | None]:
    if isinstance(value, dict):
        name = value.get("path")
        value = value.get("bytes")
    else:
        name = None
    return (value if isinstance(value, bytes) else None), (name if isinstance(name, str) and name else None)
