"""The images of a DonkeyCar tub, one file a frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.pictures import MAX_BYTES, Size, decode_picture, in_pixels, picture_size
from mobile_vla.errors import DataError
from mobile_vla.storage.disk import unreadable
from mobile_vla.untrusted.files import read_limited

_REMEDY = "Copy it again, or mark its frame deleted."


def image_size(path: Path) -> Size:
    """Return the size in the image's header; no pixel is decoded. Raises ``UserError`` as ``read_image`` does."""
    return picture_size(_read(path), place=str(path), remedy=_REMEDY)


def read_image(path: Path, *, size: Size) -> NDArray[np.uint8]:
    """Return a decoded image, RGB [Y, X, C]; ``size`` is the size of the first image of its episode.

    Raises ``UserError`` with the file's name where the file cannot be read, is not a complete JPEG or PNG, is animated,
    or has another size.
    """
    pixels = decode_picture(_read(path), place=str(path), remedy=_REMEDY)
    found = (pixels.shape[1], pixels.shape[0])
    if found != size:
        raise DataError(
            f"{path} is {in_pixels(found)}, but its episode began with {in_pixels(size)} px. "
            "Mark the frames of one size deleted, or read them as separate tubs."
        )
    return pixels


def _read(path: Path) -> bytes:
    try:
        return read_limited(path, max_bytes=MAX_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
