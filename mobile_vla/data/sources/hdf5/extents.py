"""Checks of what an HDF5 data set claims against the bytes stored in the file, before memory is allocated or read."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.hdf5.chunks import filters_of
from mobile_vla.errors import DataError, UnreadableNowError
from mobile_vla.text import first_few

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_MAX_CHUNKS = 2**24

_MAX_CHUNK_BYTES = 320 * 2**20
"""Maximum size of the chunks that one row needs, unpacked. A reading process has memory for twice as much."""

_BEST_RATIOS = {
    h5py.h5z.FILTER_DEFLATE: 1032,  # 2 bits encode the longest match, 258 bytes
    h5py.h5z.FILTER_LZF: 88,  # 3 bytes encode the longest match, 264 bytes
    h5py.h5z.FILTER_SHUFFLE: 1,
    h5py.h5z.FILTER_FLETCHER32: 1,
}
"""The best compression ratio of each filter: how many bytes one stored byte can become.

A data set that claims a higher ratio cannot be stored in the file. For other filters no such bound is known; only the
limits above apply to them.
"""

_PLUGINS = {
    307: "bzip2",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32018: "fcidecomp",
    32024: "sz3",
    32026: "blosc2",
    32028: "sperr",
    32033: "htj2k",
}
"""The filters of the package hdf5plugin, by their registered number."""

_DAMAGED = "it is damaged or hostile. Copy the file again or remove it."


def check_length(path: Path) -> None:
    """Raise ``DataError`` where a file that HDF5 can open is longer than its superblock states.

    A file that HDF5 closed has exactly the stated length. A writer that was killed after a flush leaves a longer file
    with the frames since the flush. Bytes inserted by another program also make it longer, and make every address after
    them wrong. HDF5 itself only refuses files that are too short.
    """
    with path.open("rb") as file:
        start = 0  # the HDF5 format allows the superblock at 0, 512, 1024, 2048, ...
        while file.seek(start) == start and file.read(8) != SIGNATURE:
            start = 2 * start or 512
            if start > path.stat().st_size:
                return
        superblock = file.read(100)
        size = file.seek(0, 2)
    # The end-of-file address is the third address in the superblock; its offset and the width of an address depend on
    # the version. h5py does not report it: it must be read from the bytes.
    version = superblock[0]
    first, width = (16, superblock[5]) if version == 0 else (20, superblock[5]) if version == 1 else (4, superblock[1])
    saved = int.from_bytes(superblock[first + 2 * width : first + 3 * width], "little")
    if saved < size:
        raise DataError(
            f"{path}: is {size} bytes long but was saved with {saved}: the program that wrote it was killed, and its "
            "last frames are lost, or another program changed it. Record it again, remove it, or keep what was saved "
            "with h5repack."
        )


def check_filters(dataset: h5py.Dataset, place: str) -> None:
    """Raise ``UnreadableNowError``, which names the filter, where the data need a filter that is not installed."""
    for number, given_name in filters_of(dataset):
        if h5py.h5z.filter_avail(number) or _has_plugin(number):
            continue
        name = _PLUGINS.get(number, given_name)
        package = (
            "Install the package that has it: pip install hdf5plugin"
            if number in _PLUGINS
            else "Install its HDF5 plugin and set HDF5_PLUGIN_PATH, or write the file again with gzip"
        )
        raise UnreadableNowError(f"{place} is compressed with filter {number} ({name}), which is missing. {package}.")


def _has_plugin(number: int) -> bool:
    try:
        importlib.import_module("hdf5plugin")  # importing it registers its filters; it is an optional package
    except ImportError:
        return False
    return h5py.h5z.filter_avail(number)


def check_stored(dataset: h5py.Dataset, place: str, *, file_size: int) -> NDArray[np.int64]:
    """Return offset and size in bytes of each stored part of ``dataset``: [N, 2].

    Raises ``DataError`` where it claims more bytes than the file can contain, or where rows (the first axis) were never
    written: HDF5 would return zeros for those.
    """
    settings, shape = dataset.id.get_create_plist(), dataset.shape or ()
    claimed = math.prod(shape) * dataset.id.get_type().get_size()
    if claimed == 0 or dataset.shape is None:
        return np.zeros((0, 2), np.int64)
    if settings.get_layout() == h5py.h5d.CHUNKED:
        return _check_chunks(dataset, place, claimed=claimed, file_size=file_size)
    if claimed > file_size:
        raise DataError(_claims_too_much(place, shape, claimed, f"the file has {file_size}"))
    stored = dataset.id.get_storage_size()
    if settings.get_layout() == h5py.h5d.COMPACT:  # stored in the object header, which HDF5 has already read
        if stored < claimed:
            raise DataError(_claims_too_much(place, shape, claimed, f"{stored} are stored"))
        return np.zeros((0, 2), np.int64)
    offset = dataset.id.get_offset()
    if offset is None:
        raise DataError(_not_written(place, [(0, shape[0] if shape else 1)], "has no bytes in the file"))
    if stored < claimed or offset + claimed > file_size:
        raise DataError(_claims_too_much(place, shape, claimed, f"{min(stored, file_size - offset)} are stored"))
    return np.array([[offset, claimed]], np.int64)


def _check_chunks(dataset: h5py.Dataset, place: str, *, claimed: int, file_size: int) -> NDArray[np.int64]:
    shape, chunk = dataset.shape, dataset.chunks
    assert shape is not None
    assert chunk is not None
    # The shape and the chunk shape come from the file and may be hostile: the cheap limits come before anything whose
    # time or memory grows with them.
    grid = [-(-size // step) for size, step in zip(shape, chunk, strict=True)]
    if math.prod(grid) > min(_MAX_CHUNKS, file_size):
        limit = f"{math.prod(grid)} chunks; the file has {file_size} bytes and may have {_MAX_CHUNKS} chunks"
        raise DataError(f"{place} is {list(shape)} in {limit}: {_DAMAGED}")
    num_needed = chunk[0] * (claimed // shape[0])
    if max(num_needed, math.prod(chunk) * dataset.id.get_type().get_size()) > _MAX_CHUNK_BYTES:
        raise DataError(
            f"{place} needs {num_needed / 2**20:.0f} MiB of memory for its first row (chunks of {list(chunk)}); "
            f"expected at most {_MAX_CHUNK_BYTES // 2**20}. Write it again with one row a chunk (h5repack does)."
        )
    ratio = _best_ratio(dataset)
    if claimed > ratio * file_size:
        raise DataError(_claims_too_much(place, shape, claimed, f"the file has {file_size}"))
    chunks: list[h5py.h5d.StoreInfo] = []
    # True ends the iteration: a damaged chunk index may list more chunks than the data set has.
    dataset.id.chunk_iter(lambda info: chunks.append(info) if len(chunks) <= math.prod(grid) else True)
    written = np.zeros(grid, bool)
    num_raw_bytes = math.prod(chunk) * dataset.id.get_type().get_size()
    num_filters = len(filters_of(dataset))
    for info in chunks:
        cell = tuple(at // step for at, step in zip(info.chunk_offset, chunk, strict=True))
        # The mask has a bit for each filter that was skipped for this chunk. Without any filter, its size is known.
        is_filtered = info.filter_mask & (2**num_filters - 1) != 2**num_filters - 1
        if info.byte_offset is None or info.size == 0:
            continue  # allocated, but not written
        if info.byte_offset + info.size > file_size:
            raise DataError(f"{place} lies beyond the end of the file, {file_size} bytes: {_DAMAGED}")
        if not is_filtered and info.size != num_raw_bytes:
            raise DataError(f"{place} has a chunk of {info.size} bytes where {num_raw_bytes} are needed: {_DAMAGED}")
        if all(at < size for at, size in zip(cell, grid, strict=True)):
            written[cell] = True
    if not written.all():
        has = f"has only {int(written.sum())} of {written.size} chunks"
        rows = _ranges(~written.all(axis=tuple(range(1, len(grid)))), chunk[0], shape[0])
        raise DataError(_not_written(place, rows, has))
    extents = np.array([[info.byte_offset, info.size] for info in chunks], np.int64).reshape(-1, 2)
    if claimed > ratio * int(extents[:, 1].sum()):
        raise DataError(_claims_too_much(place, shape, claimed, f"{int(extents[:, 1].sum())} are stored"))
    return extents


def is_allocated_early(dataset: h5py.Dataset) -> bool:
    """Return whether space was allocated before any row was written: then unwritten rows look like written zeros."""
    return dataset.id.get_create_plist().get_alloc_time() == h5py.h5d.ALLOC_TIME_EARLY


def is_writing_recorded(dataset: h5py.Dataset) -> bool:
    """Return whether the file shows which rows were written: true for chunks that are allocated when written.

    A contiguous data set is allocated as a whole when the first row is written; its other rows read as zeros.
    """
    return dataset.chunks is not None and not is_allocated_early(dataset)


def _best_ratio(dataset: h5py.Dataset) -> float:
    return math.prod(_BEST_RATIOS.get(number, math.inf) for number, _ in filters_of(dataset))


def _ranges(is_missing: Any, step: int, num_rows: int) -> list[tuple[int, int]]:
    """Return the ranges of missing rows as (first row, row after the last), from missing chunk rows [N] bool."""
    edges = np.flatnonzero(np.diff([False, *is_missing, False])).reshape(-1, 2) * step
    return [(int(first), min(int(end), num_rows)) for first, end in edges]


def _not_written(place: str, rows: Sequence[tuple[int, int]], has: str) -> str:
    listed = first_few([f"{first}..{end - 1}" for first, end in rows])
    return (
        f"{place} {has}: it was not saved to the end (a full disk?). Rows {listed} were never written and would read "
        "as zeros. Copy the file again or remove it."
    )


def _claims_too_much(place: str, shape: Sequence[int], claimed: int, found: str) -> str:
    return f"{place} claims {list(shape)}, {claimed} bytes, but {found}: {_DAMAGED}"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Where a data set is stored: the address of its header, and offset and size in bytes of its parts [N, 2]."""

    header: int
    parts: NDArray[np.int64]


def check_apart(stored_by_key: Mapping[str, Stored], path: Path, *, userblock_size: int) -> None:
    """Raise ``DataError`` where stored bytes overlap each other or the structure of the file.

    HDF5 never writes such a file: an address is damaged, and the data read from it are not what was recorded. Of the
    file's structure only the superblock and the first bytes of the headers are checked. A data set with two keys (a
    hard link) is one.
    """
    by_header = {found.header: (key, found) for key, found in stored_by_key.items()}
    # Addresses of objects count from the end of the user block, those of data from the start of the file.
    headers = [[userblock_size, 48], *([userblock_size + header, 8] for header in by_header)]
    extents = {key: found.parts for key, found in by_header.values()}
    named = {f"key '{key}'": found for key, found in extents.items()}
    named["the structure of the file"] = np.array(headers, np.int64)
    names = np.repeat(np.array(list(named)), [len(found) for found in named.values()])
    stored = np.concatenate(list(named.values()))
    # Sorted by offset, two parts overlap only if two neighbours do.
    order = np.argsort(stored[:, 0], kind="stable")
    first, end = stored[order, 0], stored[order].sum(axis=1)
    overlaps = np.flatnonzero(first[1:] < end[:-1])
    if len(overlaps):
        one, other = names[order][overlaps[0]], names[order][overlaps[0] + 1]
        raise DataError(f"{path}: {one} and {other} lie on the same bytes of the file: {_DAMAGED}")
