"""Decode the images of a DonkeyCar tub: only whole JPEG and PNG files of believable size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mobile_vla.disk import unreadable
from mobile_vla.errors import DataError, UserError
from mobile_vla.untrusted.files import read_limited

Size = tuple[int, int]
"""Columns and rows."""

MAX_PIXELS = 2560 * 1600
"""Of one image, twice full HD: a car's are 160x120. One that claims more is refused before it is decoded, and a tub of
small files that are large pictures still takes seconds and not minutes."""

_MAX_BYTES = 64 * 2**20

_MAX_SCANS = 100
"""Of a JPEG. Progressive ones have about ten; each costs the time of a whole image and may be 30 bytes long."""

_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

_HOLE = bytes(4096)
"""A block that a disk never wrote reads as zeros. A JPEG has no checksum, and decoders take them for pixels."""

_REMEDY = "Copy it again, or mark its frame deleted."


def image_size(path: Path) -> Size:
    """Return what the header of the image says; nothing is decoded. Raises UserError as ``read_image`` does."""
    with _opened(_read(path), path) as image:
        return image.size


def read_image(path: Path, *, size: Size) -> NDArray[np.uint8]:
    """Decode an image to RGB [Y, X, C]; ``size`` is that of its episode's first.

    Raises UserError, naming the file, for what cannot be read, is no whole JPEG or PNG, is animated, or has another
    size.
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
            image.verify()  # checksums, which decoding does not look at
    elif content.rfind(_END_OF_IMAGE) < content.rfind(_START_OF_SCAN):
        raise DataError(f"{path} is not a readable image (it has no end: truncated or not written in full). {_REMEDY}")
    elif _HOLE in content[content.rfind(_START_OF_SCAN) :]:
        raise DataError(f"{path} is not a readable image (4 KiB of it are zeros: not written in full). {_REMEDY}")
    return pixels


def in_pixels(size: Size) -> str:
    """Return ``160x120``."""
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
    """Open an image of at most MAX_PIXELS; what a decoder finds wrong inside the block becomes a ``DataError``."""
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
    except Exception as error:  # PIL's parsers let through what they meet: struct.error, zlib.error, KeyError
        raise DataError(f"{path} is not a readable image ({error or type(error).__name__}). {_REMEDY}") from error
