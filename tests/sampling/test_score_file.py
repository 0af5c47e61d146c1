"""A window score file gives every window its own number, and says what is wrong where it cannot."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import problems, table

from mobile_vla.errors import ConfigError, UserError
from mobile_vla.sampling.score_file import read_window_scores, write_window_scores

SUFFIXES = ("csv", "parquet")

WINDOWS = table([3, 5], window_size=2, fwd_pred_next_n=2)
"""Eight windows: frames 0..2 of episode_0 and 0..4 of episode_1."""

GOOD = [("episode_0", frame, 0.5) for frame in range(3)] + [("episode_1", frame, -2.0) for frame in range(5)]


def write(path: Path, rows: list[tuple[str, int, float | None]]) -> Path:
    """Write rows as another program would, the columns in another order and one more beside them."""
    episode, frame, score = zip(*rows, strict=True) if rows else ((), (), ())
    columns = {
        "note": pa.array(["x"] * len(rows), pa.string()),
        "score": pa.array(score, pa.float64()),
        "frame": pa.array(frame, pa.int32()),
        "episode": pa.array(episode, pa.string()),
    }
    store(path, pa.table(columns))
    return path


def store(path: Path, content: pa.Table) -> None:
    (csv.write_csv if path.suffix == ".csv" else parquet.write_table)(content, path)


def read(path: Path, option: str = "sampler.scores") -> list[float]:
    return read_window_scores(path, WINDOWS, option=option).tolist()


@settings(max_examples=30)
@given(problem=problems(), suffix=st.sampled_from(SUFFIXES), seed=st.integers(0, 99))
def test_every_window_gets_back_what_was_written_for_it(problem, suffix: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(scale=10.0 ** random.integers(-20, 20), size=len(problem.windows)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new" / f"scores.{suffix}"
        write_window_scores(path, problem.windows, scores)
        np.testing.assert_array_equal(read_window_scores(path, problem.windows, option="x"), scores)
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@settings(max_examples=20)
@given(order=st.permutations(range(len(GOOD))), suffix=st.sampled_from(SUFFIXES))
def test_neither_the_order_of_lines_nor_lines_of_other_windows_matter(order: list[int], suffix: str) -> None:
    foreign = [("episode_2", 0, 9.0), ("episode_1", 5, 9.0), ("episode_1", 10**12, 9.0), ("episode_0", -1, np.nan)]
    rows = [GOOD[i] for i in order]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"scores.{suffix}"
        columns = zip(*[*foreign[:2], *rows, *foreign[2:]], strict=True)
        store(path, pa.table(dict(zip(("episode", "frame", "score"), map(list, columns), strict=True))))
        assert read(path) == [0.5] * 3 + [-2.0] * 5


def test_parquet_may_hold_other_types_of_the_same_values(tmp_path: Path) -> None:
    episode, frame, score = zip(*GOOD, strict=True)
    for types in (
        (pa.large_string(), pa.int8(), pa.float32()),
        (pa.dictionary(pa.int8(), pa.string()), pa.uint64(), pa.int16()),
        (pa.string(), pa.float64(), pa.float64()),
    ):
        values = (episode, frame, [round(s) for s in score] if types[2] == pa.int16() else score)
        arrays = [pa.array(v, t) for v, t in zip(values, types, strict=True)]
        store(tmp_path / "typed.parquet", pa.Table.from_arrays(arrays, ["episode", "frame", "score"]))
        assert read(tmp_path / "typed.parquet") == list(values[2])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row for row in GOOD if row[1] == 0], r"no row for 6 of 8 windows: episode_0 frame 1, episode_0 frame 2, "),
        (GOOD[:-1], r"no row for 1 of 8 windows: episode_1 frame 4\. Write"),
        ([], r"no row for 8 of 8 windows: episode_0 frame 0, episode_0 frame 1, episode_0 frame 2, \.\.\."),
        ([*GOOD, GOOD[4]], r"several rows for 1 of 8 windows: episode_1 frame 1;"),
        ([*GOOD[:-1], ("episode_1", 4, float("inf"))], r"no finite score for 1 of 8 windows: episode_1 frame 4"),
        ([*GOOD[:-1], ("episode_1", 4, float("nan"))], r"no finite score for 1 of 8 windows"),
        ([*GOOD[:-1], ("episode_1", 4, None)], r"no finite score for 1 of 8 windows"),
        ([*GOOD[:-1], ("episode_1", 4, 1e200)], r"no finite score for 1 of 8 windows"),
        ([*GOOD, ("episode_1", None, 1.0)], r"1 fields of the columns episode and frame are empty"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_its_option(
    tmp_path: Path, suffix: str, rows: list[tuple[str, int, float | None]], message: str
) -> None:
    path = write(tmp_path / f"scores.{suffix}", rows)
    with pytest.raises(ConfigError, match=rf"sampler\.reference={path}: .*{message}"):
        read(path, option="sampler.reference")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path, suffix: str) -> None:
    store(tmp_path / f"scores.{suffix}", pa.table({"episode": ["episode_0"], "loss": [1.0]}))
    with pytest.raises(ConfigError, match="no column frame and no column score; its columns are episode, loss"):
        read(tmp_path / f"scores.{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe,\x80", b"episode,frame,score\nepisode_0,first,1\n"])
def test_what_is_no_table_of_these_types_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"scores.{suffix}").write_bytes(content)
    with pytest.raises(ConfigError, match=r"sampler\.scores="):
        read(tmp_path / f"scores.{suffix}")


def test_parts_of_a_frame_are_refused(tmp_path: Path) -> None:
    store(tmp_path / "s.parquet", pa.table({"episode": ["episode_0"], "frame": [0.5], "score": [1.0]}))
    with pytest.raises(ConfigError, match="expected episode: text, frame: integer, score: number"):
        read(tmp_path / "s.parquet")


def test_a_missing_file_and_another_kind_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file; expected a window score file .* mobile_vla irreducible FILE"):
        read(tmp_path / "none.csv")
    for name in ("scores.json", "scores"):
        with pytest.raises(ConfigError, match=r"expected a file named \.csv or \.parquet"):
            read(tmp_path / name)
        with pytest.raises(UserError, match=r"expected a file named \.csv or \.parquet"):
            write_window_scores(tmp_path / name, WINDOWS, np.zeros(len(WINDOWS)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scores.{suffix}"
    write_window_scores(path, WINDOWS, np.ones(len(WINDOWS)))
    with pytest.raises(UserError, match="the scores of 1 of 8 windows: episode_1 frame 4 are not finite"):
        write_window_scores(path, WINDOWS, np.array([*range(7), np.nan]))
    assert read(path) == [1.0] * 8


@pytest.mark.parametrize(("limit", "value"), [("_MAX_ROWS", 7), ("_MAX_BYTES", 100)])
def test_a_parquet_file_that_claims_too_much_is_not_read(
    limit: str, value: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "scores.parquet", GOOD)
    assert read(path)
    monkeypatch.setattr(f"mobile_vla.sampling.score_file.{limit}", value)
    with pytest.raises(ConfigError, match=r"sampler\.scores=.*claims 8 rows of .* MiB; expected at most"):
        read(path)


def test_csv_files_of_one_line_and_of_any_size_end_at_once(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    for size, message in ((2**28, "cannot be read"), (2**40, "has 1,048,576 MiB; expected at most 512")):
        path.write_text("episode,frame,score\n")
        with path.open("r+b") as file:
            file.truncate(size)
        started = time.process_time()
        with pytest.raises(ConfigError, match=message):
            read(path)
        assert time.process_time() - started < 3
