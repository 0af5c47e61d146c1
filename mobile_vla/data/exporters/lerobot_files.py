"""Files of limited size in numbered folders: chunk-000/file-000, chunk-000/file-001, ..."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.exporters.lerobot_frames import EncodedCamera
from mobile_vla.data.exporters.lerobot_info import CHUNKS_SIZE

if TYPE_CHECKING:
    import pyarrow as pa

_GROUP_BYTES = 32 * 2**20
"""Size of the images from which on a row group ends: a longer episode has several, so that none fills the memory."""

_PAGE_ROWS = 16
"""Rows after which a page of a table may end. By default it is 1,024, and a page is read as a whole."""


@dataclass(kw_only=True)
class Numbering:
    """The place of the file that is being written, and its size so far in bytes.

    A new file begins where an episode would make this one larger than ``limit``; an episode lies in one file.
    """

    limit: int
    chunk: int = 0
    file: int = 0
    num_bytes: int = 0

    def starts_new(self, num_bytes: int) -> bool:
        """Return whether the next ``num_bytes`` go to a new file, and go on to its place."""
        is_full = self.num_bytes > 0 and self.num_bytes + num_bytes >= self.limit
        if is_full:
            self.file += 1
            if self.file == CHUNKS_SIZE:
                self.chunk, self.file = self.chunk + 1, 0
            self.num_bytes = 0
        return is_full

    def path(self, folder: Path, template: str, **more: str) -> Path:
        """Return the path of the file in ``folder``, whose parent exists then."""
        path = folder / template.format(chunk_index=self.chunk, file_index=self.file, **more)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class Tables:
    """Parquet files with the columns ``schema`` at the places that ``template`` names in ``folder``."""

    def __init__(self, folder: Path, template: str, *, schema: pa.Schema, limit: int) -> None:
        self._folder, self._template, self._schema = folder, template, schema
        self.numbering = Numbering(limit=limit)
        self._writer: Any = None
        self._open = ExitStack()

    def start(self, num_bytes: int) -> None:
        """Begin a new file where the next ``num_bytes`` would make this one too large."""
        if self.numbering.starts_new(num_bytes):
            self.close()

    def write(self, table: pa.Table) -> None:
        """Append a row group."""
        import pyarrow.parquet as pq

        if self._writer is None:
            self._sink = self._open.enter_context(self.numbering.path(self._folder, self._template).open("wb"))
            images = [field.name for field in self._schema if str(field.type).startswith("struct")]
            columns: Any = [field.name for field in self._schema if field.name not in images]
            self._writer = pq.ParquetWriter(
                self._sink,
                self._schema,
                compression="snappy",
                use_dictionary=columns,
                write_batch_size=_PAGE_ROWS if images else None,
            )
            self._open.callback(self._writer.close)
        self._writer.write_table(table)
        self.numbering.num_bytes = self._sink.tell()

    def close(self) -> None:
        """Complete the file that is open; the next row group begins another."""
        self._writer = None
        self._open.close()


class Videos:
    """The videos of one camera: those of many episodes one after the other in a file, copied without encoding them."""

    def __init__(self, folder: Path, template: str, key: str, *, limit: int, rate: Fraction) -> None:
        self._folder, self._template, self._key, self._rate = folder, template, key, rate
        self.numbering = Numbering(limit=limit)
        self._container: Any = None
        self._stream: Any = None
        self._num_frames = 0
        self._open = ExitStack()

    def append(self, video: Path, *, num_frames: int) -> tuple[float, float]:
        """Append ``video`` and return the seconds from which and to which it is in the file."""
        import av

        num_bytes = video.stat().st_size
        if self.numbering.starts_new(num_bytes):
            self.close()
        with av.open(str(video), format="mp4") as source:
            recorded: Any = source.streams.video[0]
            if self._container is None:
                file = self._open.enter_context(
                    self.numbering.path(self._folder, self._template, video_key=self._key).open("wb")
                )
                self._container = self._open.enter_context(av.open(file, "w", format="mp4"))
                self._stream = self._container.add_stream_from_template(recorded)
                self._stream.time_base = recorded.time_base
            first = round(Fraction(self._num_frames) / self._rate / recorded.time_base)
            for packet in source.demux(recorded):
                if packet.dts is None:  # the last one, which holds nothing
                    continue
                packet.pts, packet.dts = packet.pts + first, packet.dts + first
                packet.stream = self._stream
                self._container.mux(packet)
        start = self._num_frames
        self._num_frames += num_frames
        self.numbering.num_bytes += num_bytes
        return float(start / self._rate), float(self._num_frames / self._rate)

    def close(self) -> None:
        """Complete the file that is open; the next episode begins another."""
        self._container, self._num_frames = None, 0
        self._open.close()


def episode_tables(
    schema: pa.Schema, values: Mapping[str, np.ndarray], pictures: Mapping[str, EncodedCamera], num_frames: int
) -> Iterator[pa.Table]:
    """Yield the rows of an episode, in pieces whose images fit into the memory.

    ``values`` has the columns without images, [F, width] each, ``pictures`` the others.
    """
    import pyarrow as pa

    sizes_F = np.zeros(num_frames, np.int64)
    for camera in pictures.values():
        assert camera.sizes is not None
        sizes_F += camera.sizes
    piece_F = (np.cumsum(sizes_F) - sizes_F) // _GROUP_BYTES
    starts = [0, *(np.flatnonzero(np.diff(piece_F)) + 1).tolist(), num_frames]
    with ExitStack() as stack:
        files = {key: stack.enter_context(camera.path.open("rb")) for key, camera in pictures.items()}
        for first, end in pairwise(starts):
            columns = []
            for field in schema:
                if field.name in pictures:
                    sizes = pictures[field.name].sizes
                    assert sizes is not None
                    columns.append(_images(files[field.name], sizes[first:end], first, field.type))
                    continue
                plain = np.ascontiguousarray(values[field.name][first:end]).ravel()
                is_list = pa.types.is_fixed_size_list(field.type)
                width = field.type.list_size if is_list else 1
                array = pa.array(plain, field.type.value_type if is_list else field.type)
                columns.append(pa.FixedSizeListArray.from_arrays(array, width) if is_list else array)
            yield pa.Table.from_arrays(columns, schema=schema)


def _images(file: BinaryIO, sizes: NDArray[np.int64], first: int, kind: pa.StructType) -> pa.StructArray:
    """Return the next images of ``file``, whose names begin with the number ``first``.

    Their bytes are read at once and used as they are: as Python objects they would take the memory three times.
    """
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    content = pa.py_buffer(file.read(int(offsets[-1])))
    images = pa.Array.from_buffers(pa.binary(), len(sizes), [None, pa.py_buffer(offsets), content])
    names = pa.array([f"frame-{row:06d}.png" for row in range(first, first + len(sizes))])
    return pa.StructArray.from_arrays([images, names], fields=list(kind))
