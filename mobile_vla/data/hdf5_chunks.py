"""Read the rows of an HDF5 data set in blocks, and make sure that each gzip chunk unpacks to all of its bytes."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator

import h5py
import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import DataError

_BLOCK_BYTES = 16 * 2**20
"""Of decoded rows at a time: an episode's length costs no memory."""

_FLETCHER_BYTES = 4
"""The check sum that stands behind the data."""


def filters_of(dataset: h5py.Dataset) -> list[tuple[int, str]]:
    """Return number and name of each filter that the chunks pass through, in the order in which they are written."""
    settings = dataset.id.get_create_plist()
    found = [settings.get_filter(index) for index in range(settings.get_nfilters())]
    return [(number, name.decode(errors="replace")[:40] or "without a name") for number, _, _, name in found]


def read_rows(dataset: h5py.Dataset, place: str) -> Iterator[NDArray]:
    """Yield all rows (the first axis) in blocks; whole chunks at a time, so that none is unpacked twice.

    ``DataError`` where a chunk that HDF5 lists is not found by its place (HDF5 would answer zeros), or where a gzip one
    unpacks to fewer bytes than it should have (HDF5 would leave the rest to chance; of other filters it is not known).
    HDF5 unpacks no faster than zlib does here: 0.65 and 0.61 s for 60 VGA frames.
    """
    chunk, num_rows = dataset.chunks, len(dataset)
    row_bytes = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    step = chunk[0] if chunk else 1
    block = max(_BLOCK_BYTES // (step * row_bytes), 1) * step
    numbers = [number for number, _ in filters_of(dataset)]
    shuffled = h5py.h5z.FILTER_SHUFFLE in numbers and dataset.dtype.itemsize > 1
    if chunk and set(numbers) <= {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE} and not shuffled:
        for first in range(0, num_rows, block):
            rows = _unpack_rows(dataset, first, min(first + block, num_rows), place)
            size = max(_BLOCK_BYTES // row_bytes, 1)  # of a large chunk a part at a time: each is progress
            yield from (rows[start : start + size] for start in range(0, len(rows), size))
        return
    if chunk:
        for corner in _corners(dataset, 0, num_rows):
            _unpack(dataset, corner, place)
    if block * row_bytes > 4 * _BLOCK_BYTES:  # large chunks: unpack each once, into a cache of HDF5
        cache = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        cache.set_chunk_cache(100_003, 2 * block * row_bytes, 1.0)
        dataset = h5py.Dataset(h5py.h5d.open(dataset.file.id, str(dataset.name).encode(), cache))
        block = max(_BLOCK_BYTES // row_bytes, 1)
    for first in range(0, num_rows, block):
        yield dataset[first : first + block]


def _corners(dataset: h5py.Dataset, first: int, end: int) -> Iterator[tuple[int, ...]]:
    chunk = dataset.chunks
    assert chunk is not None
    ends = (end, *dataset.shape[1:])
    return itertools.product(*(range(a, b, step) for a, b, step in zip((first, *[0] * 9), ends, chunk, strict=False)))


def _unpack_rows(dataset: h5py.Dataset, first: int, end: int, place: str) -> NDArray:
    """Return the rows ``first`` .. ``end`` - 1; ``first`` begins a chunk."""
    chunk = dataset.chunks
    assert chunk is not None
    if chunk[0] >= end - first and chunk[1:] == dataset.shape[1:]:  # large chunks take their memory once
        [corner] = _corners(dataset, first, end)
        return np.frombuffer(_unpack(dataset, corner, place), dataset.dtype).reshape(chunk)[: end - first]
    rows = np.empty((end - first, *dataset.shape[1:]), dataset.dtype)
    for corner in _corners(dataset, first, end):
        values = np.frombuffer(_unpack(dataset, corner, place), dataset.dtype).reshape(chunk)
        target = rows[(slice(corner[0] - first, None), *(slice(at, None) for at in corner[1:]))]
        target = target[tuple(slice(0, size) for size in chunk)]
        target[:] = values[tuple(slice(0, size) for size in target.shape)]
    return rows


def _unpack(dataset: h5py.Dataset, corner: tuple[int, ...], place: str) -> bytes:
    """Return the bytes of one chunk, still shuffled where a filter did that; ``DataError`` where they are too few.

    Only for chunks of the filters shuffle, gzip and Fletcher32; others return what is stored.
    """
    assert dataset.chunks is not None
    expected = math.prod(dataset.chunks) * dataset.dtype.itemsize
    mask, data = dataset.id.read_direct_chunk(corner)
    applied = [number for index, (number, _) in enumerate(filters_of(dataset)) if not mask >> index & 1]
    for number in reversed(applied):
        if number == h5py.h5z.FILTER_FLETCHER32:
            data = data[:-_FLETCHER_BYTES]
        elif number == h5py.h5z.FILTER_DEFLATE:
            inflate = zlib.decompressobj()
            data = inflate.decompress(data, expected + 2 * _FLETCHER_BYTES)
            inflate.decompress(inflate.unconsumed_tail, 1)  # so that its check sum is seen
            if not inflate.eof:
                raise zlib.error("incomplete or larger than its chunk")
        elif number != h5py.h5z.FILTER_SHUFFLE:
            return data
    if len(data) != expected:
        raise DataError(
            f"{place} cannot be decoded (the chunk at {list(corner)} unpacks to {len(data)} bytes, {expected} are "
            "needed). Copy the file again or remove it."
        )
    return data
