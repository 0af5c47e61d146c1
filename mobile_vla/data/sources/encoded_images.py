"""The strict decoder of JPEG and PNG images that are stored in recordings: complete, of limited size, always RGB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mobile_vla.errors import DataError, UserError

MAX_ENCODED_BYTES = 64 * 2**20

_MAX_SCANS = 100
"""Maximum number of scans of a JPEG; progressive files have about ten.

Each costs the time of decoding a whole image and can be only 30 bytes long.
"""

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

_HOLE = bytes(4096)
"""A disk block that was never written reads as zeros. JPEG has no checksum, so decoders turn them into pixels."""


def is_encoded(content: bytes) -> bool:
    """Return whether ``content`` begins as a JPEG or PNG does."""
    return content.startswith(_SIGNATURES)


def encoded_size(content: bytes, place: str, *, max_pixels: int) -> tuple[int, int]:
    """Return (rows, columns) from the image's header; no pixel is decoded. Raises as ``decode_image`` does."""
    with _opened(content, place, max_pixels=max_pixels) as image:
        return image.height, image.width


def decode_image(content: bytes, place: str, *, max_pixels: int) -> NDArray[np.uint8]:
    """Return the pixels of a JPEG or PNG, RGB [Y, X, 3].

    Raises ``DataError``, which begins with ``place``, where it is no complete image of one picture, or larger than
    ``max_pixels``.
    """
    with _opened(content, place, max_pixels=max_pixels) as image:
        is_png = image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    if is_png:
        with _opened(content, place, max_pixels=max_pixels) as image:
            image.verify()  # checks the checksums, which decoding does not; it needs a newly opened file
    # Pillow decodes a JPEG whose last part reads as zeros without an error, so the end marker is checked here. It must
    # come after the last start of a scan, because a thumbnail in the header has an end marker of its own.
    elif content.rfind(_END_OF_IMAGE) < content.rfind(_START_OF_SCAN):
        raise DataError(f"{place} is not a readable image (it has no end: truncated or not written in full).")
    elif _HOLE in content[content.rfind(_START_OF_SCAN) :]:
        raise DataError(f"{place} is not a readable image (4 KiB of it are zeros: not written in full).")
    return pixels


@contextmanager
def _opened(content: bytes, place: str, *, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image; any error that a decoder raises inside the block becomes a ``DataError``."""
    if not content:
        raise DataError(f"{place} holds no bytes: it was never written.")
    if len(content) > MAX_ENCODED_BYTES:
        raise DataError(f"{place} holds {len(content)} bytes; expected an image of at most {MAX_ENCODED_BYTES}.")
    if content.count(_START_OF_SCAN) > _MAX_SCANS and content.startswith(_SIGNATURES[0]):
        raise DataError(f"{place} has more than {_MAX_SCANS} scans, which no camera writes.")
    try:
        with Image.open(BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.width * image.height > max_pixels:
                raise DataError(f"{place} claims {image.height}x{image.width}; expected at most {max_pixels} pixels.")
            if getattr(image, "n_frames", 1) > 1:
                raise DataError(f"{place} holds several pictures, expected one.")
            yield image
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{place} is not a readable image (no JPEG or PNG, or a damaged header).") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{place} claims too many pixels ({error}).") from error
    except MemoryError:
        raise
    except Exception as error:  # PIL's parsers raise many types for damaged files: struct.error, zlib.error, KeyError
        raise DataError(f"{place} is not a readable image ({error or type(error).__name__}).") from error
