"""Check that a data set that stands opens without reading, and that every change of a file is read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from made_episodes import actions, h5_source, images, write_h5
from mutated_tubs import write_small_tub

from mobile_vla.data import episodes as module
from mobile_vla.data.episodes import Scanned, read_recordings
from mobile_vla.data.sources.contract import Recording
from mobile_vla.data.sources.tubs.source import TubSource
from mobile_vla.data.sources.tubs.split import TubOptions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three episodes, one with other columns and texts."""
    place = tmp_path / "episodes"
    place.mkdir()
    for number in range(3):
        write_h5(
            place / f"run_{number}.h5",
            images=images(5, seed=number),
            actions=actions(5, seed=number, num_columns=2 + number % 2) + 0.01,
            **({"language_instruction": [b"go"]} if number else {"instructions": [b"drive"]}),
        )
    return place


@pytest.fixture
def num_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, in order."""
    read: list[str] = []
    really = module.ask_each

    def counted(requests, *, num_processes):
        read.extend(request.path.name for request in requests)
        return really(requests, num_processes=num_processes)

    monkeypatch.setattr(module, "ask_each", counted)
    return read


def scan(folder: Path) -> Scanned:
    return read_recordings(h5_source(folder), cache_dir=folder.parent / "cache", num_workers=1)


def same(one: Recording, other: Recording) -> bool:
    """Return whether two recordings agree in every field."""
    arrays = all(np.array_equal(getattr(one, key), getattr(other, key)) for key in ("actions", "state"))
    keys = ("name", "path", "files", "part", "spec", "texts", "fields", "doubtful_row", "notes")
    return arrays and all(getattr(one, key) == getattr(other, key) for key in keys)


def test_a_second_reading_reads_nothing_and_gives_the_same(folder: Path, num_read: list[str]) -> None:
    first, second = scan(folder), scan(folder)

    assert len(num_read) == 3
    assert all(map(same, first.recordings, second.recordings))
    assert second.recordings[0].texts.similar_names == ("key 'instructions'",)
    assert first.warnings == second.warnings


def test_only_the_file_that_changed_is_read_again(folder: Path, num_read: list[str]) -> None:
    scan(folder)
    num_read.clear()
    os.utime(folder / "run_1.h5")
    write_h5(folder / "run_3.h5", images=images(5), actions=actions(5) + 0.01)

    assert len(scan(folder).recordings) == 4
    assert sorted(num_read) == ["run_1.h5", "run_3.h5"]


def test_another_content_of_the_same_size_and_times_is_read(folder: Path) -> None:
    path = folder / "run_1.h5"
    before = scan(folder).recordings[1].actions.copy()
    status = path.stat()
    write_h5(
        path, images=images(5, seed=1), actions=actions(5, seed=9, num_columns=3) + 0.01, language_instruction=[b"go"]
    )
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert not np.array_equal(scan(folder).recordings[1].actions, before)


def test_a_file_with_an_error_is_read_each_time(folder: Path, num_read: list[str]) -> None:
    (folder / "bad.h5").write_bytes(b"no HDF5")
    for _ in range(2):
        num_read.clear()
        [problem] = scan(folder).problems
        assert "bad.h5" in str(problem)
    assert num_read == ["bad.h5"]


@pytest.mark.parametrize("place", [0, 20, -1])
def test_a_damaged_cache_is_said_and_read_again(
    place: int, folder: Path, num_read: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    first = scan(folder)
    [cache] = (folder.parent / "cache").glob("recordings-*.bin")
    content = bytearray(cache.read_bytes())
    content[place] ^= 1
    cache.write_bytes(content)
    num_read.clear()

    second = scan(folder)

    assert len(num_read) == 3
    assert all(map(same, first.recordings, second.recordings))
    assert "is damaged or of another version" in caplog.text


def test_a_cache_that_cannot_be_written_costs_only_time(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder.parent / "cache").write_text("a file in its place")
    assert len(scan(folder).recordings) == 3
    assert "The next run reads all files again" in caplog.text


def test_a_picture_that_is_written_again_is_other_content_though_nothing_else_is_read_again(
    tmp_path: Path, num_read: list[str]
) -> None:
    tub = write_small_tub(tmp_path / "tub")
    source = TubSource(folder=tub, options=TubOptions(min_frames=1, max_frames=10))
    first = read_recordings(source, cache_dir=tmp_path / "cache", num_workers=1).recordings
    again = read_recordings(source, cache_dir=tmp_path / "cache", num_workers=1).recordings
    num_read.clear()
    picture = first[0].files[0]
    picture.write_bytes(first[0].files[1].read_bytes())

    changed = read_recordings(source, cache_dir=tmp_path / "cache", num_workers=1).recordings

    assert num_read == []
    assert [r.digest for r in first] == [r.digest for r in again]
    assert changed[0].digest != first[0].digest
    assert [r.digest for r in changed[1:]] == [r.digest for r in first[1:]]
