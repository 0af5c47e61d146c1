"""Parquet files of recordings, read in pieces: which columns and episodes they hold, and numbers as arrays."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobile_vla.data.sources.lerobot.errors import report_damage
from mobile_vla.errors import DataError
from mobile_vla.untrusted.files import lfs_pointer, open_regular

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

MAX_ROWS = 50_000_000
"""Maximum number of rows of one file: 19 days at 30 frames a second."""

_MAX_WIDTH = 65_536
"""Maximum number of values of one row of one column, such as a chunk of 100 actions of a humanoid."""

_BATCH_BYTES = 8 * 2**20

_UNREADABLE = "is truncated, corrupt or not parquet"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table. A ``picture`` is a struct or bytes that may hold one; ``depth`` counts nested lists."""

    name: str
    kind: Literal["float", "integer", "picture", "other"]
    depth: int


@contextmanager
def open_table(path: Path) -> Iterator[ParquetFile]:
    """Open one parquet file; raise ``DataError`` where it is none, ``UnreadableNowError`` where it may be good."""
    # pyarrow would read ahead, and keep whole columns of a row group: pictures then fill the memory.
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    pa.set_cpu_count(1)  # the reading processes work in parallel, and each thread's stack counts as memory
    with ExitStack() as stack:
        with report_damage(path, _UNREADABLE):
            raw = stack.enter_context(open_regular(path))
            if pointer := lfs_pointer(raw.read(40), instead_of="the file"):
                raise DataError(f"{path}: {pointer}")
            raw.seek(0)
            table = stack.enter_context(ParquetFile(raw, pre_buffer=False, buffer_size=2**20))
            num_rows = table.metadata.num_rows
        if num_rows > MAX_ROWS:
            raise DataError(f"{path}: claims {num_rows:,} rows; expected at most {MAX_ROWS:,}. Remove the file.")
        yield table


def describe_columns(path: Path) -> list[Column]:
    """Return the columns of a parquet file. It is called in a reading process."""
    with open_table(path) as table:
        return columns_of(table, path)


def columns_of(table: ParquetFile, path: Path) -> list[Column]:
    """Return the columns of an open table, in order."""
    from pyarrow import types

    with report_damage(path, _UNREADABLE):
        schema = table.schema_arrow
    found = []
    for column in schema:
        kind, depth = column.type, 0
        while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            kind, depth = kind.value_type, depth + 1
        is_picture = types.is_struct(kind) and "bytes" in {kind.field(i).name for i in range(kind.num_fields)}
        if depth == 0 and (is_picture or types.is_binary(kind) or types.is_large_binary(kind)):
            found.append(Column(name=column.name, kind="picture", depth=depth))
        elif types.is_floating(kind):
            found.append(Column(name=column.name, kind="float", depth=depth))
        elif types.is_integer(kind) or types.is_boolean(kind):
            found.append(Column(name=column.name, kind="integer", depth=depth))
        else:
            found.append(Column(name=column.name, kind="other", depth=depth))
    return found


def episode_spans(table: ParquetFile, path: Path) -> Generator[None, None, dict[int, tuple[int, int]]]:
    """Return the first row of each episode and the first after it, by ``episode_index``. Each yield reports progress.

    Raises ``DataError`` where the rows of an episode are not together.
    """
    if "episode_index" not in table.schema_arrow.names:
        raise DataError(f"{path}: has no column 'episode_index', so its rows belong to no episode. Write it again.")
    spans: dict[int, tuple[int, int]] = {}
    last, row = None, 0
    for batch in batches(table, path, ["episode_index"], (0, table.metadata.num_rows), row_bytes=8):
        values = numbers(batch["episode_index"], f"{path}: column 'episode_index'", row).reshape(
            len(batch["episode_index"]), -1
        )
        if values.shape[1] != 1 or not np.isfinite(values).all():
            raise DataError(f"{path}: column 'episode_index' has not one number in each row. Write it again.")
        for start, end in pairwise([0, *(np.flatnonzero(np.diff(values[:, 0])) + 1), len(values)]):
            episode = int(values[start, 0])
            if episode in spans and episode != last:
                raise DataError(
                    f"{path}: the rows of episode {episode} are not together, again from row {row + start}."
                )
            spans[episode] = (spans[episode][0] if episode == last else row + int(start), row + int(end))
            last = episode
        row += len(values)
        yield
    return spans


def batches(
    table: ParquetFile, path: Path, names: Sequence[str], rows: tuple[int, int], *, row_bytes: int
) -> Iterator[Mapping[str, Any]]:
    """Yield the columns ``names`` of the rows from ``rows[0]`` to before ``rows[1]`` as arrow arrays, in pieces.

    ``row_bytes`` is the expected size of a row, from which the size of the pieces follows. Only the row groups with
    these rows are read.
    """
    first, end = rows
    size = int(np.clip(_BATCH_BYTES // max(row_bytes, 1), 1, 65_536))
    group_first = 0
    with _page_in_memory(path, names), report_damage(path, _UNREADABLE):
        for group in range(table.metadata.num_row_groups):
            group_end = group_first + table.metadata.row_group(group).num_rows
            if group_first < end and first < group_end:
                row = group_first
                for batch in table.iter_batches(size, row_groups=[group], columns=list(names), use_threads=False):
                    low, high = max(first - row, 0), min(end - row, batch.num_rows)
                    if low < high:
                        piece = batch.slice(low, high - low)
                        yield {name: piece.column(name) for name in names}
                    row += batch.num_rows
                    if row >= end:
                        return
                if row != group_end:
                    raise DataError(
                        f"{path}: a row group claims {group_end - group_first} rows and has another number."
                    )
            group_first = group_end


@contextmanager
def _page_in_memory(path: Path, names: Sequence[str]) -> Iterator[None]:
    """Raise an error that says what to do where a page of a column needs more memory than a reading process may have.

    A page is read as a whole. lerobot writes all pictures of an episode into one, as pyarrow ends a page only after
    1,024 rows; 240 MB of them still fit.
    """
    try:
        yield
    except MemoryError as error:
        raise DataError(
            f"{path}: column {', '.join(map(repr, names))} does not fit into the memory of a reading process, as one "
            "page holds too many rows. Write it with smaller pages (write_batch_size=16 in pyarrow), or the pictures "
            "as a video."
        ) from error


def numbers(array: Any, place: str, first_row: int) -> NDArray[Any]:
    """Return an arrow array as numbers [rows, ...]; nested lists become dimensions, missing numbers NaN.

    Raises ``DataError`` where lists are missing or differ in length; ``first_row`` is its first row.
    """
    from pyarrow import types

    sizes = [len(array)]
    while types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type):
        if array.null_count:
            missing = int(np.argmin(array.is_valid().to_numpy(zero_copy_only=False))) // int(np.prod(sizes[1:]))
            raise DataError(f"{place} has no value in row {first_row + missing}; expected one in each row.")
        if types.is_fixed_size_list(array.type):
            width = array.type.list_size
        else:
            lengths = array.value_lengths().to_numpy(zero_copy_only=False)
            width = int(lengths[0]) if len(lengths) else 0
            if (lengths != width).any():
                odd = int(np.argmax(lengths != width))
                row = first_row + odd // int(np.prod(sizes[1:]))
                raise DataError(
                    f"{place} has {lengths[odd]} values in row {row} and {width} before; "
                    "expected the same number in each row."
                )
        sizes.append(width)
        if int(np.prod(sizes[1:], dtype=np.float64)) > _MAX_WIDTH:
            raise DataError(f"{place} has rows of {sizes[1:]} values; expected at most {_MAX_WIDTH:,}.")
        array = array.flatten()
    return array.to_numpy(zero_copy_only=False).reshape(sizes)
