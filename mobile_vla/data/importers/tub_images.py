"""The images of DonkeyCar tubs: each file is a complete JPEG or PNG, and all of an episode have one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.pictures import Size, decode_picture, in_pixels, picture_size, read_picture_file
from mobile_vla.errors import DataError

_REMEDY = "Copy it again, or mark its frame deleted."


def image_size(path: Path) -> Size:
    """Return the size in the image's header; no pixel is decoded. Raises ``UserError`` as ``read_image`` does."""
    return picture_size(read_picture_file(path, remedy=_REMEDY), place=str(path), remedy=_REMEDY)


def read_image(path: Path, *, size: Size) -> NDArray[np.uint8]:
    """Return a decoded image, RGB [Y, X, C]; ``size`` is the size of the first image of its episode.

    Raises ``UserError`` with the file's name where the file cannot be read, is not a complete JPEG or PNG, is animated,
    or has another size.
    """
    content = read_picture_file(path, remedy=_REMEDY)
    found = picture_size(content, place=str(path), remedy=_REMEDY)
    if found != size:
        raise DataError(
            f"{path} is {in_pixels(found)}, but its episode began with {in_pixels(size)} px. "
            "Mark the frames of one size deleted, or import them as separate tubs."
        )
    return decode_picture(content, place=str(path), remedy=_REMEDY)
