"""The images of a bag's messages, converted to RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.bags.topics import RAW_IMAGE
from mobile_vla.data.sources.pictures import MAX_BYTES, MAX_PIXELS, decode_picture, picture_size
from mobile_vla.errors import DataError

_REMEDY = "Copy the bag again, or leave the topic out of dataset.bag.image_topic."

_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}
"""The channels of an encoding that are red, green and blue; alpha is left out."""

_WIDTHS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
"""Number of bytes of a pixel."""


def unreadable_encoding(message: Any, type_name: str) -> str | None:
    """Return the name of the encoding where it is one that is not read, such as that of depth images; None otherwise.

    The format of a compressed image is free text: only what says that it is no picture of 8 bits is refused here, and
    the picture itself decides.
    """
    encoding = str(message.encoding if type_name == RAW_IMAGE else message.format)
    if type_name == RAW_IMAGE:
        return None if encoding in _CHANNELS else encoding[:80]
    is_depth = "compressedDepth" in encoding or encoding.split(";")[0].strip().startswith(("16UC", "32FC", "mono16"))
    return encoding[:80] if is_depth else None


def expected_encodings() -> str:
    """Return the encodings that are read, as a text for messages."""
    return f"{', '.join(_CHANNELS)}, or a JPEG or PNG"


def size_of(message: Any, type_name: str, *, place: str) -> tuple[int, int]:
    """Return (rows, columns) of an image, without decoding it; raises ``DataError`` where they are not plausible."""
    if type_name != RAW_IMAGE:
        columns, rows = picture_size(_content(message, place), place=place, remedy=_REMEDY)
        return rows, columns
    rows, columns = int(message.height), int(message.width)
    if not 0 < rows * columns <= MAX_PIXELS:
        raise DataError(f"{place} is {columns}x{rows} px; expected 1 to {MAX_PIXELS:,} pixels. {_REMEDY}")
    return rows, columns


def image_of(message: Any, type_name: str, *, place: str) -> NDArray[np.uint8]:
    """Return the image of a message, RGB [Y, X, 3]; raises ``DataError`` where it is not complete."""
    if type_name != RAW_IMAGE:
        pixels = decode_picture(_content(message, place), place=place, remedy=_REMEDY)
        return pixels[..., ::-1] if _is_swapped(str(message.format)) else pixels
    rows, columns = size_of(message, type_name, place=place)
    encoding = str(message.encoding)
    if encoding not in _CHANNELS:
        raise DataError(f"{place} has the encoding {encoding[:80]!r}; expected {expected_encodings()}. {_REMEDY}")
    width = _WIDTHS[encoding]
    content = np.asarray(message.data, np.uint8)
    step = int(message.step) if rows > 1 else columns * width
    # The last row may be without the padding that the step adds to the others.
    if step < columns * width or len(content) < step * (rows - 1) + columns * width:
        raise DataError(
            f"{place} holds {len(content):,} bytes with {step} a row; a {columns}x{rows} image of {encoding} has "
            f"{rows * columns * width:,}. {_REMEDY}"
        )
    padded = np.zeros(rows * step, np.uint8)
    padded[: len(content)] = content[: len(padded)]
    pixels = padded.reshape(rows, step)[:, : columns * width].reshape(rows, columns, width)
    return np.ascontiguousarray(pixels[..., list(_CHANNELS[encoding])])


def _content(message: Any, place: str) -> bytes:
    if len(message.data) > MAX_BYTES:
        raise DataError(f"{place} holds {len(message.data):,} bytes; expected at most {MAX_BYTES:,}. {_REMEDY}")
    return np.asarray(message.data, np.uint8).tobytes()


def _is_swapped(format_text: str) -> bool:
    """Return whether red and blue are exchanged in a JPEG or PNG.

    compressed_image_transport names what it gave to OpenCV's encoder, which expects BGR: with "rgb8; jpeg compressed
    bgr8" the picture is right, and with "compressed rgb8" it is swapped (its own subscriber exchanges them too). Where
    the text names nothing after "compressed", as that of other writers, the picture is taken as it is.
    """
    return "compressed rgb" in format_text.partition(";")[2]
