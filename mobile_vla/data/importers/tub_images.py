"""The image decoder for DonkeyCar tubs; it accepts only complete JPEG and PNG files of plausible size."""

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
"""Maximum size of one image, twice full HD; a car's images are 160x120.

An image whose header claims more is refused before it is decoded, so that a tub of small files that unpack to large
images takes seconds and not minutes.
"""

_MAX_BYTES = 64 * 2**20

_MAX_SCANS = 100
"""Maximum number of scans of a JPEG.

Progressive files have about ten. Each scan costs the time of decoding a whole image and can be only 30 bytes long, so a
hostile file of some kilobytes could block the import.
"""

_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

_HOLE = bytes(4096)
"""A disk block that was never written reads as zeros. JPEG has no checksum, so decoders turn them into pixels."""

_REMEDY = "Copy it again, or mark its frame deleted."


def image_size(path: Path) -> Size:
    """Return the size in the image's header; no pixel is decoded. Raises ``UserError`` as ``read_image`` does."""
    with _opened(_read(path), path) as image:
        return image.size


def read_image(path: Path, *, size: Size) -> NDArray[np.uint8]:
    """Return a decoded image, RGB [Y, X, C]; ``size`` is the size of the first image of its episode.

    Raises ``UserError`` with the file's name where the file cannot be read, is not a complete JPEG or PNG, is animated,
    or has another size.
    """
    content = _read(path)
    with _opened(content, path) as image:
        if image.size != size:
            raise DataError(
                f"{path} is {in_pixels(image.size)}, but its episode began with {in_pixels(size)} px. "
                "Mark the frames of one size deleted, or import them as separate tubs."
            )
        is_png = image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    if is_png:
        with _opened(content, path) as image:
            image.verify()  # checks the checksums, which decoding does not; it needs a newly opened file
    # Pillow decodes a JPEG whose last part reads as zeros without an error, so the end marker is checked here. It must
    # come after the last start of a scan, because a thumbnail in the header has an end marker of its own.
    elif content.rfind(_END_OF_IMAGE) < content.rfind(_START_OF_SCAN):
        raise DataError(f"{path} is not a readable image (it has no end: truncated or not written in full). {_REMEDY}")
    elif _HOLE in content[content.rfind(_START_OF_SCAN) :]:
        raise DataError(f"{path} is not a readable image (4 KiB of it are zeros: not written in full). {_REMEDY}")
    return pixels


def in_pixels(size: Size) -> str:
    """Return ``size`` as text: ``160x120``."""
    return f"{size[0]}x{size[1]}"


def _read(path: Path) -> bytes:
    try:
        content = read_limited(path, max_bytes=_MAX_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    if not content.strip(b"\0"):
        found = f"holds {len(content):,} zero bytes" if content else "is empty (0 bytes)"
        raise DataError(f"{path} {found}: it was never written to the disk. {_REMEDY}")
    if content.count(_START_OF_SCAN) > _MAX_SCANS and content.startswith(b"\xff\xd8"):
        raise DataError(f"{path} has more than {_MAX_SCANS} scans, which no camera writes. {_REMEDY}")
    return content


@contextmanager
def _opened(content: bytes, path: Path) -> Iterator[Image.Image]:
    """Open an image of at most MAX_PIXELS; any error that a decoder raises inside the block becomes a ``DataError``."""
    try:
        with Image.open(BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.size[0] * image.size[1] > MAX_PIXELS:
                raise DataError(
                    f"{path} claims {in_pixels(image.size)} px; expected at most {MAX_PIXELS:,} pixels. {_REMEDY}"
                )
            if getattr(image, "n_frames", 1) > 1:
                raise DataError(f"{path} holds several pictures, expected one. {_REMEDY}")
            yield image
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not a readable image (no JPEG or PNG, or a damaged header). {_REMEDY}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} claims too many pixels ({error}). {_REMEDY}") from error
    except Exception as error:  # PIL's parsers raise many types for damaged files: struct.error, zlib.error, KeyError
        raise DataError(f"{path} is not a readable image ({error or type(error).__name__}). {_REMEDY}") from error
