"""The decoder for JPEG and PNG pictures; it accepts only complete pictures of plausible size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mobile_vla.errors import DataError, UserError
from mobile_vla.storage.disk import unreadable
from mobile_vla.untrusted.files import read_limited

Size = tuple[int, int]
"""(columns, rows) in pixels."""

MAX_PIXELS = 2560 * 1600
"""Maximum size of one picture, twice full HD.

A picture whose header claims more is refused before it is decoded, so that a recording of small files that unpack to
large pictures takes seconds and not minutes.
"""

MAX_BYTES = 64 * 2**20
"""Maximum size of one encoded picture."""

_MAX_SCANS = 100
"""Maximum number of scans of a JPEG.

Progressive files have about ten. Each scan costs the time of decoding a whole picture and can be only 30 bytes long, so
a hostile file of some kilobytes could block the reader.
"""

_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

_HOLE = bytes(4096)
"""A disk block that was never written reads as zeros. JPEG has no checksum, so decoders turn them into pixels."""


def read_picture_file(path: Path, *, remedy: str) -> bytes:
    """Return the content of a picture's file, not decoded; raises ``UserError`` with the file's name."""
    try:
        content = read_limited(path, max_bytes=MAX_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    _check_written(content, str(path), remedy=remedy)
    return content


def picture_size(content: bytes, *, place: str, remedy: str) -> Size:
    """Return the size in the header of a JPEG or PNG; no pixel is decoded. Raises as ``decode_picture`` does."""
    _check_written(content, place, remedy=remedy)
    with _opened(content, place, remedy) as image:
        return image.size


def decode_picture(content: bytes, *, place: str, remedy: str) -> NDArray[np.uint8]:
    """Return a decoded picture, RGB [Y, X, 3].

    Raises ``DataError``, which begins with ``place`` and ends with ``remedy``, where ``content`` is not a complete JPEG
    or PNG, has an implausible size, or is animated.
    """
    _check_written(content, place, remedy=remedy)
    with _opened(content, place, remedy) as image:
        is_png = image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    if is_png:
        with _opened(content, place, remedy) as image:
            image.verify()  # checks the checksums, which decoding does not; it needs a newly opened file
    # Pillow decodes a JPEG whose last part reads as zeros without an error, so the end marker is checked here. It must
    # come after the last start of a scan, because a thumbnail in the header has an end marker of its own.
    elif content.rfind(_END_OF_IMAGE) < content.rfind(_START_OF_SCAN):
        raise DataError(f"{place} is not a readable image (it has no end: truncated or not written in full). {remedy}")
    elif _HOLE in content[content.rfind(_START_OF_SCAN) :]:
        raise DataError(f"{place} is not a readable image (4 KiB of it are zeros: not written in full). {remedy}")
    return pixels


def in_pixels(size: Size) -> str:
    """Return ``size`` as text: ``160x120``."""
    return f"{size[0]}x{size[1]}"


def _check_written(content: bytes, place: str, *, remedy: str) -> None:
    if not content.strip(b"\0"):
        found = f"holds {len(content):,} zero bytes" if content else "is empty (0 bytes)"
        raise DataError(f"{place} {found}: it was never written to the disk. {remedy}")
    if content.count(_START_OF_SCAN) > _MAX_SCANS and content.startswith(b"\xff\xd8"):
        raise DataError(f"{place} has more than {_MAX_SCANS} scans, which no camera writes. {remedy}")


@contextmanager
def _opened(content: bytes, place: str, remedy: str) -> Iterator[Image.Image]:
    """Open a picture of at most MAX_PIXELS; any error that a decoder raises in the block becomes a ``DataError``."""
    try:
        with Image.open(BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.size[0] * image.size[1] > MAX_PIXELS:
                raise DataError(
                    f"{place} claims {in_pixels(image.size)} px; expected at most {MAX_PIXELS:,} pixels. {remedy}"
                )
            if getattr(image, "n_frames", 1) > 1:
                raise DataError(f"{place} holds several pictures, expected one. {remedy}")
            if image.mode.startswith(("I", "F")):  # Pillow would cut everything above 255, not scale it
                raise DataError(f"{place} has 16 or more bits a channel, expected 8: is it a depth image? {remedy}")
            yield image
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{place} is not a readable image (no JPEG or PNG, or a damaged header). {remedy}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{place} claims too many pixels ({error}). {remedy}") from error
    except Exception as error:  # PIL's parsers raise many types for damaged files: struct.error, zlib.error, KeyError
        raise DataError(f"{place} is not a readable image ({error or type(error).__name__}). {remedy}") from error
