"""The images of one camera in an HDF5 file: raw frames, or one JPEG or PNG a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.blocks import in_blocks
from mobile_vla.data.sources.contract import MAX_FRAME_PIXELS, MAX_FRAMES
from mobile_vla.data.sources.hdf5.chunks import check_chunks, read_rows
from mobile_vla.data.sources.hdf5.errors import describe, report_damage
from mobile_vla.data.sources.hdf5.extents import is_writing_recorded
from mobile_vla.data.sources.pictures import decode_picture, picture_size
from mobile_vla.errors import DataError

Coding = Literal["raw", "padded", "text", "variable"]
"""``raw``: [T, Y, X, 3] uint8. Else each row is one JPEG or PNG. ``padded``: [T, N] uint8, with zeros after its end
(ALOHA). ``text``: [T] of fixed-length bytes. ``variable``: [T] of uint8 arrays of any length (Minari).
"""

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")

_MAX_ENCODED_BYTES = 64 * 2**20
"""Maximum size of one JPEG or PNG."""

_REMEDY = "Copy the file again or remove it."


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """The data set of one camera, checked but not read; ``place`` begins the errors about it."""

    dataset: h5py.Dataset
    coding: Coding
    place: str

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.dataset)


def _coding_of(node: Any) -> Coding | None:
    """Return how the images of ``node`` are stored; None where its type and shape are none of images."""
    if not isinstance(node, h5py.Dataset) or node.shape is None:
        return None
    if node.ndim == 4 and node.dtype == np.uint8:
        return "raw" if node.shape[-1] == 3 and 0 not in node.shape[1:3] else None
    if node.ndim == 2 and node.dtype == np.uint8:
        return "padded" if node.shape[1] else None
    if node.ndim == 1 and node.dtype.kind == "S":
        return "text"
    return "variable" if node.ndim == 1 and h5py.check_vlen_dtype(node.dtype) == np.uint8 else None


def image_data(node: Any, key: str, path: Any) -> ImageData:
    """Return the images in the data set ``node``, whose type and shape are checked; raises ``DataError`` for others."""
    place = f"{path}: key '{key}'"
    with report_damage(f"{place} cannot be read"):
        coding, found = _coding_of(node), describe(node)
    if coding is None:
        raise DataError(
            f"{place} is {found}; expected [frames, rows, columns, 3] uint8. Convert the images to 8-bit colour, "
            "frames first, or store one JPEG or PNG a row."
        )
    if len(node) > MAX_FRAMES or (coding == "raw" and node.shape[1] * node.shape[2] > MAX_FRAME_PIXELS):
        raise DataError(
            f"{place} is {found}; expected at most {MAX_FRAMES} frames of {MAX_FRAME_PIXELS} pixels. "
            "Cut the episode, or remove the file where it is none."
        )
    return ImageData(dataset=node, coding=coding, place=place)


def holds_images(node: Any, key: str, path: Any) -> bool:
    """Return whether ``node`` holds images beyond doubt: raw ones, or rows of which the first begins as an image."""
    with report_damage(f"{path}: key '{key}' cannot be read"):
        coding = _coding_of(node)
        if coding is None or coding == "raw":
            return coding == "raw"
        is_small = coding == "variable" or node.dtype.itemsize * (node.shape[1] if node.ndim == 2 else 1) < 2**26
        return (
            bool(len(node))
            and is_small
            and _row(ImageData(dataset=node, coding=coding, place=""), 0).startswith(_SIGNATURES)
        )


def image_size(images: ImageData) -> tuple[int, int]:
    """Return (rows, columns) of the first image; encoded ones state it in their header."""
    if images.coding == "raw":
        return images.dataset.shape[1], images.dataset.shape[2]
    if not len(images):
        return 0, 0
    with report_damage(f"{images.place} cannot be read"):
        content = _row(images, 0)
    columns, rows = picture_size(content, place=f"{images.place} row 0", remedy=_REMEDY)
    return rows, columns


def image_at(images: ImageData, index: int) -> NDArray[np.uint8]:
    """Return one frame [Y, X, 3]."""
    with report_damage(f"{images.place} cannot be read"):
        if images.coding == "raw":
            return images.dataset[index]
        content = _row(images, index)
    return decode_picture(content, place=f"{images.place} row {index}", remedy=_REMEDY)


def read_images(images: ImageData, *, num_frames: int, lengths: h5py.Dataset | None) -> Iterator[NDArray[np.uint8]]:
    """Yield the first ``num_frames`` frames in blocks [frames of the block, Y, X, 3], in the file's channel order.

    ``lengths`` [cameras, T] are the lengths in bytes of the padded rows. Which row of it is which camera's is not
    stored, so that an image must have one of the lengths that are stated for its frame. Raises ``DataError`` where an
    image is damaged or has another size than the first.
    """
    if images.coding == "raw":
        with report_damage(f"{images.place} cannot be decoded"):
            num_left = num_frames
            for block in read_rows(images.dataset, images.place):
                if num_left > 0:
                    yield block[:num_left]
                num_left -= len(block)
        return
    yield from in_blocks(_decoded(images, num_frames=num_frames, lengths=lengths))


def _decoded(images: ImageData, *, num_frames: int, lengths: h5py.Dataset | None) -> Iterator[NDArray[np.uint8]]:
    stated = _stated_lengths(images, lengths)
    size = image_size(images)
    for index, content in enumerate(_contents(images, num_frames)):
        place = f"{images.place} row {index}"
        if stated is not None and len(content) not in stated[:, index]:
            raise DataError(
                f"{place} holds {len(content)} bytes, but the lengths of this frame are "
                f"{', '.join(map(str, stated[:, index].tolist()[:8]))}: it was not written in full. Copy the file "
                "again or remove it."
            )
        image = decode_picture(content, place=place, remedy=_REMEDY)
        if image.shape[:2] != size:
            raise DataError(
                f"{place} has {image.shape[0]}x{image.shape[1]} pixels, and row 0 {size[0]}x{size[1]}. Cut the episode "
                "where the size changes."
            )
        yield image


def _stated_lengths(images: ImageData, lengths: h5py.Dataset | None) -> NDArray[Any] | None:
    """Return the lengths [cameras, T]; None without any of this shape, as each image also says where it ends."""
    if lengths is None or images.coding != "padded" or lengths.ndim != 2 or lengths.shape[1] < len(images):
        return None
    with report_damage(f"{images.place} cannot be read"):
        return np.concatenate(list(read_rows(lengths, images.place))).astype(np.int64)


def _contents(images: ImageData, num_frames: int) -> Iterator[bytes]:
    """Yield the bytes of each image."""
    if images.coding == "variable":  # their bytes lie apart from the rows, so that one is read at a time
        for index in range(num_frames):
            with report_damage(f"{images.place} cannot be decoded"):
                content = _row(images, index)
            yield content
        return
    num_left = num_frames
    with report_damage(f"{images.place} cannot be decoded"):
        for block in read_rows(images.dataset, images.place):
            for row in block[:num_left]:
                yield row.tobytes().rstrip(b"\0")
            num_left -= min(num_left, len(block))


def _row(images: ImageData, index: int) -> bytes:
    """Return the bytes of one image, without the zeros after its end: neither a JPEG nor a PNG ends with a zero."""
    row = images.dataset[index]
    content = row if isinstance(row, bytes) else np.asarray(row).tobytes()
    return content.rstrip(b"\0")


def check_not_blank(images: ImageData) -> None:
    """Raise ``DataError`` where the last frames are all zero and the file does not show that they were written.

    A recorder that was killed leaves such frames; a camera does not, because its black is not exactly zero. A chunk is
    allocated when its first row is written, so the other rows of the last chunk may be unwritten. Of encoded images no
    row may be empty, which shows when they are decoded.
    """
    if images.coding != "raw":
        return
    dataset, place = images.dataset, images.place
    num_good, chunk = len(dataset), dataset.chunks
    last = (num_good - 1) // chunk[0] * chunk[0] if chunk is not None and is_writing_recorded(dataset) else 0
    with report_damage(f"{place} cannot be read"):
        while num_good > last and not dataset[num_good - 1].any():
            num_good -= 1
    if num_good < len(dataset) and (num_good > last or last == 0):
        with report_damage(f"{place} cannot be decoded"):
            check_chunks(dataset, num_good, place)  # what a short chunk leaves undefined may happen to be zero
        raise DataError(
            f"{place} is zero in every pixel of the rows {num_good}..{len(dataset) - 1}, up to the last: they were "
            "allocated and, most likely, never written. Copy the file again, cut those rows, or remove it."
        )


def check_rows_fit(images: ImageData) -> None:
    """Raise ``DataError`` where one row of encoded images takes more memory than any image does."""
    width = images.dataset.shape[1] if images.coding == "padded" else images.dataset.dtype.itemsize
    if images.coding != "raw" and width > _MAX_ENCODED_BYTES:
        raise DataError(f"{images.place} has rows of {width} bytes; expected images of at most {_MAX_ENCODED_BYTES}.")
