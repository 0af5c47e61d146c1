"""The decoder of JPEG and PNG pictures in recordings; it accepts only complete ones of plausible size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mobile_vla.errors import DataError, UserError

Size = tuple[int, int]
"""(columns, rows) in pixels."""

MAX_PIXELS = 2560 * 1600
"""Maximum size of one picture, twice full HD; a small car's are 160x120.

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


def picture_size(content: bytes, *, place: str, remedy: str) -> Size:
    """Return the size in the picture's header; no pixel is decoded. Raises ``DataError`` as ``decode_picture`` does."""
    _check_content(content, place, remedy)
    with _opened(content, place, remedy) as picture:
        return picture.size


def decode_picture(content: bytes, *, place: str, remedy: str) -> NDArray[np.uint8]:
    """Return the decoded picture, RGB [Y, X, 3]; ``place`` and ``remedy`` are the begin and end of error messages.

    Raises ``DataError`` where ``content`` is not one complete JPEG or PNG of at most MAX_PIXELS.
    """
    _check_content(content, place, remedy)
    with _opened(content, place, remedy) as picture:
        is_png = picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB"))
    if is_png:
        with _opened(content, place, remedy) as picture:
            picture.verify()  # checks the checksums, which decoding does not; it needs a newly opened file
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


def _check_content(content: bytes, place: str, remedy: str) -> None:
    if not content.strip(b"\0"):
        found = f"holds {len(content):,} zero bytes" if content else "is empty (0 bytes)"
        raise DataError(f"{place} {found}: it was never written to the disk. {remedy}")
    if content.count(_START_OF_SCAN) > _MAX_SCANS and content.startswith(b"\xff\xd8"):
        raise DataError(f"{place} has more than {_MAX_SCANS} scans, which no camera writes. {remedy}")


@contextmanager
def _opened(content: bytes, place: str, remedy: str) -> Iterator[Image.Image]:
    """Open a picture of at most MAX_PIXELS; every error of a decoder inside the block becomes a ``DataError``."""
    try:
        with Image.open(BytesIO(content), formats=("JPEG", "PNG")) as picture:
            if picture.size[0] * picture.size[1] > MAX_PIXELS:
                raise DataError(
                    f"{place} claims {in_pixels(picture.size)} px; expected at most {MAX_PIXELS:,} pixels. {remedy}"
                )
            if getattr(picture, "n_frames", 1) > 1:
                raise DataError(f"{place} holds several pictures, expected one. {remedy}")
            if picture.mode.startswith(("I", "F")):  # Pillow would cut everything above 255, not scale it
                raise DataError(f"{place} has 16 or more bits a channel, expected 8: is it a depth image? {remedy}")
            yield picture
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{place} is not a readable image (no JPEG or PNG, or a damaged header). {remedy}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{place} claims too many pixels ({error}). {remedy}") from error
    except Exception as error:  # PIL's parsers raise many types for damaged files: struct.error, zlib.error, KeyError
        raise DataError(f"{place} is not a readable image ({error or type(error).__name__}). {remedy}") from error
