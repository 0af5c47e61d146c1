"""The reader of an HDF5 data set's rows, in blocks; it checks that each gzip chunk unpacks to all of its bytes."""

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
"""Size of the decoded rows of one block: the memory does not grow with the length of the episode."""

_FLETCHER_BYTES = 4
"""Size of the Fletcher32 checksum that follows the data."""


def filters_of(dataset: h5py.Dataset) -> list[tuple[int, str]]:
    """Return the number and name of each filter of the chunks, in the order in which they are applied when writing."""
    settings = dataset.id.get_create_plist()
    found = [settings.get_filter(index) for index in range(settings.get_nfilters())]
    return [(number, name.decode(errors="replace")[:40] or "without a name") for number, _, _, name in found]


def read_rows(dataset: h5py.Dataset, place: str) -> Iterator[NDArray]:
    """Yield all rows (the first axis) in blocks of whole chunks, so that no chunk is unpacked twice.

    Raises ``DataError`` where a chunk that HDF5 lists is not found at its position (HDF5 would return zeros), or where
    a gzip chunk unpacks to fewer bytes than expected (HDF5 would leave the rest undefined; for other filters this
    cannot be checked). HDF5 does not unpack faster than zlib does here: 0.65 s and 0.61 s for 60 VGA frames.
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
            size = max(_BLOCK_BYTES // row_bytes, 1)  # parts of a large chunk: each one yielded counts as progress
            yield from (rows[start : start + size] for start in range(0, len(rows), size))
        return
    # Other filters, and shuffled values of several bytes: HDF5 reads them. Each chunk is unpacked here only as a check.
    if chunk:
        for corner in _corners(dataset, 0, num_rows):
            _unpack(dataset, corner, place)
    if block * row_bytes > 4 * _BLOCK_BYTES:  # large chunks: a cache so that HDF5 unpacks each one only once
        cache = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        cache.set_chunk_cache(100_003, 2 * block * row_bytes, 1.0)
        dataset = h5py.Dataset(h5py.h5d.open(dataset.file.id, str(dataset.name).encode(), cache))
        block = max(_BLOCK_BYTES // row_bytes, 1)
    for first in range(0, num_rows, block):
        yield dataset[first : first + block]


def check_chunks(dataset: h5py.Dataset, first: int, place: str) -> None:
    """Raise ``DataError`` where a gzip chunk of the rows from ``first`` on unpacks to fewer bytes than expected."""
    if dataset.chunks:
        step = dataset.chunks[0]
        for corner in _corners(dataset, first // step * step, len(dataset)):
            _unpack(dataset, corner, place)


def _corners(dataset: h5py.Dataset, first: int, end: int) -> Iterator[tuple[int, ...]]:
    """Yield the first index of each chunk of the rows ``first`` .. ``end`` - 1; ``first`` begins a chunk."""
    chunk = dataset.chunks
    assert chunk is not None
    ends = (end, *dataset.shape[1:])
    return itertools.product(*(range(a, b, step) for a, b, step in zip((first, *[0] * 9), ends, chunk, strict=False)))


def _unpack_rows(dataset: h5py.Dataset, first: int, end: int, place: str) -> NDArray:
    """Return the rows ``first`` .. ``end`` - 1; ``first`` begins a chunk."""
    chunk = dataset.chunks
    assert chunk is not None
    if chunk[0] >= end - first and chunk[1:] == dataset.shape[1:]:  # one large chunk: its memory is used without a copy
        [corner] = _corners(dataset, first, end)
        return np.frombuffer(_unpack(dataset, corner, place), dataset.dtype).reshape(chunk)[: end - first]
    rows = np.empty((end - first, *dataset.shape[1:]), dataset.dtype)
    for corner in _corners(dataset, first, end):
        values = np.frombuffer(_unpack(dataset, corner, place), dataset.dtype).reshape(chunk)
        # Chunks at the edge extend beyond the data set: both sides are cut to what they share.
        target = rows[(slice(corner[0] - first, None), *(slice(at, None) for at in corner[1:]))]
        target = target[tuple(slice(0, size) for size in chunk)]
        target[:] = values[tuple(slice(0, size) for size in target.shape)]
    return rows


def _unpack(dataset: h5py.Dataset, corner: tuple[int, ...], place: str) -> bytes:
    """Return the unpacked bytes of one chunk, still shuffled where the filter shuffle was used.

    Raises ``DataError`` where there are too few bytes. Only chunks of the filters shuffle, gzip and Fletcher32 are
    unpacked; for other filters the stored bytes are returned.
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
            # The limit keeps a hostile chunk from filling the memory; a few bytes more let a wrong size show.
            data = inflate.decompress(data, expected + 2 * _FLETCHER_BYTES)
            inflate.decompress(inflate.unconsumed_tail, 1)  # zlib checks its checksum only when it reads the end
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
