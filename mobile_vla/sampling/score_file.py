"""Read and write window score files (CSV or Parquet): one number for each window, by episode and current frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from mobile_vla.errors import ConfigError, UserError
from mobile_vla.installation import PROGRAM
from mobile_vla.schema import WindowTable
from mobile_vla.storage.disk import write_atomically

COLUMNS = ("episode", "frame", "score")

_EPISODE_TYPE = pa.dictionary(pa.int32(), pa.string())
_NUM_NAMED = 3

_MAX_ROWS, _MAX_BYTES = 10_000_000, 512 * 2**20
"""Limits of a file that is read: 10 million windows are about 300 hours at 10 frames a second."""


def read_window_scores(path: str | Path, windows: WindowTable, *, option: str) -> NDArray[np.float32]:
    """Return the score [N] of each window from the file ``path`` (.csv or .parquet); all are finite.

    The columns are ``episode`` (name), ``frame`` (current frame of the window, 0-based) and ``score``; others are not
    read. Rows that belong to no window are ignored, because a file may cover more than this table. Raises
    ``ConfigError``, which names the config key ``option``, if the file cannot be read, has no such column, has no row
    for a window, or has for a window two rows or a score that is not finite.
    """
    try:
        episode, frame, score = _read_columns(Path(path))
        row, score = _rows_of(windows, episode, frame, score)
        _check_rows(windows, row, score)
    except UserError as error:
        raise ConfigError(f"{option}={path}: {error}") from error
    scores = np.empty(len(windows), np.float32)
    scores[row] = score
    return scores


def write_window_scores(path: str | Path, windows: WindowTable, scores: NDArray[np.floating]) -> None:
    """Write ``scores`` [N] of all windows to ``path`` (.csv or .parquet) atomically.

    Raises ``UserError`` if a score is not finite, because such a file could not be read again.
    """
    path = Path(path)
    check_suffix(path)
    if not np.isfinite(scores).all():
        raise UserError(f"{path}: the scores of {_named(windows, ~np.isfinite(scores))} are not finite")
    episode = pa.array(windows.episode_names, pa.string()).take(pa.array(windows.episode))
    columns = [episode, pa.array(windows.frame), pa.array(scores.astype(np.float32))]
    table = pa.Table.from_arrays(columns, names=COLUMNS)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pa.BufferOutputStream()
    write: Callable[[pa.Table, pa.BufferOutputStream], None]
    write = csv.write_csv if path.suffix == ".csv" else parquet.write_table
    write(table, content)
    write_atomically(path, content.getvalue().to_pybytes())


def check_suffix(path: Path) -> None:
    """Raise ``UserError`` unless the name of ``path`` ends with .csv or .parquet."""
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"{path}: expected a file named .csv or .parquet")


def _read_columns(path: Path) -> tuple[pa.DictionaryArray, NDArray[np.int64], NDArray[np.float32]]:
    check_suffix(path)
    if not path.is_file():
        raise UserError(
            f"no such file; expected a window score file with the columns {', '.join(COLUMNS)}, as written by "
            f"{PROGRAM} irreducible FILE (for sampler=rho) or {PROGRAM} losses RUN FILE"
        )
    try:
        table = _read_csv(path) if path.suffix == ".csv" else _read_parquet(path)
        episode = table["episode"].unify_dictionaries().combine_chunks()
        frame = table["frame"].cast(pa.int64())
        score = table["score"].cast(pa.float64())
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot be read ({reason}); expected episode: text, frame: integer, score: number") from error
    if num_empty := episode.null_count + frame.null_count:
        raise UserError(f"{num_empty} fields of the columns episode and frame are empty; fill them in")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which ``_check_rows`` refuses
        return episode, frame.to_numpy(), score.to_numpy().astype(np.float32)


def _read_csv(path: Path) -> pa.Table:
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise UserError(f"has {size / 2**20:,.0f} MiB; expected at most {_MAX_BYTES / 2**20:,.0f}")
    # The columns are checked first: pyarrow's own error names one missing column, and not the columns of the file.
    with csv.open_csv(path) as reader:
        _check_columns(reader.schema.names)
    types = {"episode": _EPISODE_TYPE, "frame": pa.int64(), "score": pa.float64()}
    return csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=types, include_columns=COLUMNS))


def _read_parquet(path: Path) -> pa.Table:
    # A small Parquet file can expand to any number of rows. So the sizes that its metadata claim are checked first, and
    # the rows are counted while they are read, because the claim may be false.
    with parquet.ParquetFile(path, read_dictionary=["episode"]) as file:
        _check_columns(file.schema_arrow.names)
        _check_claims(file.metadata)
        batches = []
        for batch in file.iter_batches(columns=list(COLUMNS)):
            batches.append(batch)
            if sum(map(len, batches)) > _MAX_ROWS:
                raise UserError(f"has more than {_MAX_ROWS:,} rows")
    schema = pa.schema([file.schema_arrow.field(name) for name in COLUMNS])
    table = pa.Table.from_batches(batches, schema=None if batches else schema)
    if not pa.types.is_dictionary(table.schema.field("episode").type):
        table = table.set_column(0, "episode", table["episode"].cast(pa.string()).dictionary_encode())
    return table


def _check_claims(metadata: parquet.FileMetaData) -> None:
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    num_bytes = sum(column.total_uncompressed_size for column in columns if column.path_in_schema in COLUMNS)
    if metadata.num_rows > _MAX_ROWS or num_bytes > _MAX_BYTES:
        raise UserError(
            f"claims {metadata.num_rows:,} rows of {num_bytes / 2**20:,.0f} MiB; expected at most {_MAX_ROWS:,} rows "
            f"of {_MAX_BYTES / 2**20:,.0f} MiB, one for each window"
        )


def _check_columns(found: list[str]) -> None:
    if missing := [name for name in COLUMNS if name not in found]:
        raise UserError(f"has no column {' and no column '.join(missing)}; its columns are {', '.join(found)}")


def _rows_of(
    windows: WindowTable, episode: pa.DictionaryArray, frame: NDArray[np.int64], score: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the window of each line of the file, and its score; lines that belong to no window are left out."""
    number_of = {name: number for number, name in enumerate(windows.episode_names)}
    names = episode.dictionary.to_pylist()
    number = np.array([number_of.get(name, -1) for name in names], np.int64)[episode.indices.to_numpy()]
    # A flat array over all (episode, frame) pairs holds the row of the window, or -1: a dictionary of pairs would be
    # slow for millions of lines.
    num_frames = np.zeros(len(number_of), np.int64)
    np.maximum.at(num_frames, windows.episode, windows.frame + 1)
    first = np.cumsum(num_frames) - num_frames
    row_at = np.full(num_frames.sum(), -1, np.int64)
    row_at[first[windows.episode] + windows.frame] = np.arange(len(windows))
    line = np.flatnonzero((number >= 0) & (frame >= 0))
    line = line[frame[line] < num_frames[number[line]]]
    row = row_at[first[number[line]] + frame[line]]
    has_window = row >= 0
    return row[has_window], score[line[has_window]]


def _check_rows(windows: WindowTable, row: NDArray[np.int64], score: NDArray[np.float32]) -> None:
    count = np.bincount(row, minlength=len(windows))
    if (count == 0).any():
        raise UserError(
            f"has no row for {_named(windows, count == 0)}. Write one for every train window (episode, current frame)."
        )
    if (count > 1).any():
        raise UserError(f"has several rows for {_named(windows, count > 1)}; expected one each")
    is_bad = np.zeros(len(windows), bool)
    is_bad[row] = ~np.isfinite(score)
    if is_bad.any():
        raise UserError(f"has no finite score for {_named(windows, is_bad)}; expected numbers that float32 can hold")


def _named(windows: WindowTable, is_meant: NDArray[np.bool_]) -> str:
    ids = np.flatnonzero(is_meant)
    named = [f"{windows.episode_names[windows.episode[i]]} frame {windows.frame[i]}" for i in ids[:_NUM_NAMED]]
    more = ", ..." if len(ids) > _NUM_NAMED else ""
    return f"{len(ids)} of {len(windows)} windows: {', '.join(named)}{more}"
