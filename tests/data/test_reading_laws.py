"""Check the laws of reading a recording, for every format that is read: a later one joins by an entry in ``FORMATS``.

Self-contained: no byte of another file is read. Written: what was never written is refused. Bounded: a claim costs
nothing. Counted: what is left out is said. The cause is named: a good file is never called corrupt.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hostile_episodes import HOSTILE, write_outside
from made_episodes import h5_dataset, h5_source, images
from mutated_episodes import torture_episodes
from reading_causes import (
    as_nobody,
    find_in,
    gone,
    killed_writer,
    locked,
    memory_of,
    no_descriptor_left,
    no_permission,
    without_plugin,
)
from reading_formats import FORMATS, Format, Write

from mobile_vla.data.digests import digest_recordings
from mobile_vla.data.episodes import read_recordings
from mobile_vla.data.frames import FrameStore, ImageOptions, open_frames
from mobile_vla.data.reading.process import ask
from mobile_vla.data.sources.contract import Recording
from mobile_vla.data.sources.errors import outside_cause
from mobile_vla.errors import DataError, UnreadableNowError

NAME = "episode_20251204_101000"
OTHER = "episode_20251204_101001"
OPTIONS = ImageOptions(size=(6, 8), resize="direct", channel_order="rgb")


def cases(law: str) -> list:
    return [
        pytest.param(each, *case, id=f"{name}: {kind}")
        for name, each in FORMATS.items()
        for kind, case in getattr(each, law).items()
    ]


every_format = pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)


def read_folder(folder: Path, kind: Format = FORMATS["flat"]) -> tuple[list[Recording], list[DataError], list[str]]:
    """Return the recordings of the folder, without pixels, errors and warnings."""
    source = h5_source(folder, layout=kind.layout)
    scanned = read_recordings(source, cache_dir=folder.parent / "cache", num_workers=0)
    return list(scanned.recordings), list(scanned.problems), list(scanned.warnings)


def frames_of(
    folder: Path, recordings: list[Recording], kind: Format, *, digests: dict[str, str] | None = None
) -> tuple[FrameStore, dict[str, DataError]]:
    """Decode the frames of ``recordings`` into the cache beside the folder."""
    cache_dir = folder.parent / "cache"
    return open_frames(
        h5_source(folder, layout=kind.layout),
        recordings,
        cameras=[kind.camera],
        options=OPTIONS,
        digests=digests or digest_recordings(recordings, cache_dir=cache_dir),
        cache_dir=cache_dir,
        num_workers=1,
    )


def scan(folder: Path, kind: Format = FORMATS["flat"]) -> tuple[list[Recording], list[DataError], list[str]]:
    """Scan the folder as a data set does, pixels included."""
    recordings, problems, warnings = read_folder(folder, kind)
    _, undecodable = frames_of(folder, recordings, kind)
    usable = [r for r in recordings if r.name not in undecodable]
    return usable, [*problems, *undecodable.values()], warnings


def only_problem(folder: Path, kind: Format, write: Write) -> DataError:
    """Return what is said of the recording that ``write`` writes beside a sound one, which must be read."""
    folder.mkdir()
    kind.write(folder / f"{NAME}{kind.suffix}")
    path = folder / f"{OTHER}{kind.suffix}"
    write(path)
    started = time.monotonic()
    recordings, problems, _ = scan(folder, kind)
    assert time.monotonic() - started < 5
    assert [r.name for r in recordings] == [NAME + kind.episode]
    [problem] = problems
    assert str(problem).startswith(f"{path}: ")
    return problem


# Self-contained, written, bounded: what the file claims is held against what it stores.


@pytest.mark.parametrize(("kind", "write", "message"), cases("points_outside"))
def test_a_recording_that_points_outside_is_refused_by_name(
    tmp_path: Path, kind: Format, write: Callable[[Path, Path], object], message: str
) -> None:
    outside = write_outside(tmp_path / "outside")
    problem = only_problem(tmp_path / "episodes", kind, lambda path: write(path, outside))
    assert re.search(f"key '.*' {message}.*could change without this file changing", str(problem))


@pytest.mark.parametrize(("kind", "write", "message"), cases("not_written"))
def test_what_was_never_written_is_refused_with_its_rows(
    tmp_path: Path, kind: Format, write: Write, message: str
) -> None:
    assert re.search(message, str(only_problem(tmp_path / "episodes", kind, write)))


@pytest.mark.parametrize(("kind", "write", "message"), cases("claims_too_much"))
def test_a_claim_beyond_the_file_or_a_limit_costs_nothing(
    tmp_path: Path, kind: Format, write: Write, message: str
) -> None:
    assert re.search(message, str(only_problem(tmp_path / "episodes", kind, write)))


@every_format
def test_actions_that_are_zero_throughout_are_said(tmp_path: Path, kind: Format) -> None:
    (tmp_path / "episodes").mkdir()
    path = tmp_path / "episodes" / f"{NAME}{kind.suffix}"
    kind.write_still(path)
    recordings, problems, warnings = scan(tmp_path / "episodes", kind)
    name = NAME if kind.layout != "robomimic" else "demo_0"
    assert ([r.name for r in recordings], problems) == ([name], [])
    assert warnings == [
        "the actions of 1 episode(s) are zero up to the last row, most likely never written, as the camera moves or "
        f"all are zero: {name} (rows 0..3)"
    ]


@pytest.mark.parametrize(("moves", "is_said"), [(True, True), (False, False)])
def test_actions_that_end_in_zeros_are_doubted_where_the_camera_goes_on_moving(
    tmp_path: Path, moves: bool, is_said: bool
) -> None:
    images = np.random.default_rng(0).integers(1, 256, (12, 6, 8, 3)).astype(np.uint8)
    if not moves:
        images[6:] = images[6]
    with h5py.File(tmp_path / f"{NAME}.h5", "w") as file:
        file["images"] = images
        file.create_dataset("actions", (12, 2), "f4")[:6] = 0.1  # contiguous: the other rows read as zeros
    recordings, problems, warnings = scan(tmp_path)
    assert ([r.name for r in recordings], problems) == ([NAME], [])
    assert [f"{NAME} (rows 6..11)" in warning for warning in warnings] == [True] * is_said


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [None, (1, 480, 640, 3), (25, 480, 640, 3)])
def test_the_memory_does_not_grow_with_the_length_of_an_episode(tmp_path: Path, chunks: tuple[int, ...] | None) -> None:
    path = tmp_path / f"{NAME}.h5"
    with h5py.File(path, "w") as file:
        file["actions"] = np.ones((200, 2))
        options = {"chunks": chunks, "compression": "gzip"} if chunks else {}
        dataset = file.create_dataset("images", (200, 480, 640, 3), "u1", **options)
        if chunks is None:
            dataset[-1] = np.ones((480, 640, 3), np.uint8)  # the file has a hole where the others are
        for first in range(0, 200, chunks[0]) if chunks else ():
            dataset.id.write_direct_chunk((first, 0, 0, 0), zlib.compress(bytes(int(np.prod(chunks)))))
    num_bytes, grown = ask(memory_of, path)
    assert num_bytes == 200 * 480 * 640 * 3
    assert grown < 80 * 2**20


def test_mutated_recordings_crash_hang_and_make_up_nothing(tmp_path: Path) -> None:
    figures = torture_episodes(tmp_path, count=4 * len(HOSTILE), seed=6)
    assert figures.faults() == []
    assert figures.trials == 4 * len(HOSTILE)
    assert figures.refused > len(HOSTILE)


# Everything is counted.


@every_format
def test_links_to_folders_are_followed_once_and_the_second_way_is_said(tmp_path: Path, kind: Format) -> None:
    folder, disk = tmp_path / "episodes", tmp_path / "disk"
    (folder / "day1").mkdir(parents=True)
    disk.mkdir()
    kind.write(folder / "day1" / f"{NAME}{kind.suffix}")
    kind.write(disk / f"{OTHER}{kind.suffix}")
    (folder / "a_disk").symlink_to(disk)
    (folder / "a_loop").symlink_to(folder)
    (folder / "a_second_way").symlink_to(folder / "day1")
    (disk / "back").symlink_to(disk)
    (folder / "b_disk").symlink_to("not mounted")
    (folder / f"a_link{kind.suffix}").symlink_to(folder / "day1" / f"{NAME}{kind.suffix}")
    os.link(disk / f"{OTHER}{kind.suffix}", disk / f"hard_link{kind.suffix}")
    recordings, problems, warnings = scan(folder, kind)
    assert problems == []
    assert [r.path for r in recordings] == [
        folder / "day1" / f"{NAME}{kind.suffix}",
        folder / "a_disk" / f"{OTHER}{kind.suffix}",
    ]
    said = [
        f"{folder}/a_disk/back leads to {folder}/a_disk, which is read once",
        f"{folder}/a_disk/hard_link{kind.suffix} is the same file as {folder}/a_disk/{OTHER}{kind.suffix}, which is "
        "read once",
        f"{folder}/a_link{kind.suffix} is a link to {folder}/day1/{NAME}{kind.suffix}, which is read once",
        f"{folder}/a_loop leads to {folder}, which is read once",
        f"{folder}/a_second_way leads to {folder}/day1, which is read once",
        "1 link(s) lead to no file or folder: b_disk",
    ]
    assert warnings == said


@every_format
def test_hidden_and_misnamed_recordings_are_left_out_and_counted(tmp_path: Path, kind: Format) -> None:
    folder = tmp_path / "episodes"
    for place in (f"{NAME}{kind.suffix}", f".{NAME}{kind.suffix}", f".trash/x{kind.suffix}", "b.hdf", "c/d.backup"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        kind.write(folder / place)
    (folder / "notes.txt").write_text("not a recording")
    (folder / ".notes").write_text("hidden, and not a recording")
    os.mkfifo(folder / "a pipe that must not be opened")
    recordings, problems, warnings = scan(folder, kind)
    assert ([r.path.stem for r in recordings], problems) == ([NAME], [])
    assert warnings[0] == f"2 hidden file(s) or folder(s) left out: .{NAME}{kind.suffix}, .trash"
    assert warnings[1].startswith("2 file(s) are HDF5 but not named .h5 or .hdf5, and are left out: b.hdf, c/d.backup")
    dataset = h5_dataset(folder, f"dataset/layout={kind.layout}", "dataset.actions=all", "dataset.val_fraction=0.5")
    assert list(dataset.scan().warnings) == warnings
    (folder / f"{NAME}{kind.suffix}").unlink()
    with pytest.raises(DataError, match=r"holds no episode file .* 2 hidden .* 2 file\(s\) are HDF5"):
        scan(folder, kind)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that another user can read; those of pytest are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_folder_that_cannot_be_read_is_said(public: Path) -> None:
    (public / "closed").mkdir(mode=0)
    [problem] = ask(as_nobody, public, find_in)
    assert problem.startswith(f"{public}/closed: the folder cannot be read (Permission denied), so the episodes")


# The cause is named.


CAUSES: dict[Callable[..., object], str] = {
    no_permission: r"may not be read by this user\. .* \(Permission denied\)",
    no_descriptor_left: r"cannot be opened while so many other files are open\. .*ulimit -n\) \(Too many open files\)",
    locked: "cannot be locked: a program holds it open for writing.*recorder.*HDF5_USE_FILE_LOCKING=FALSE",
    killed_writer: "is open for writing elsewhere, or the program that wrote it was killed.*h5clear",
    gone: "is gone since its folder was read",
    without_plugin: r"actions?' is compressed with filter 32001 \(blosc\), which is missing\. .*pip install hdf5plugin",
}


@every_format
@pytest.mark.parametrize("lay", CAUSES, ids=lambda lay: lay.__name__)
def test_a_file_that_may_be_good_is_never_called_corrupt(
    public: Path, kind: Format, lay: Callable[..., object]
) -> None:
    path = public / f"{NAME}{kind.suffix}"
    kind.write(path)
    with pytest.raises(UnreadableNowError) as refused:
        ask(lay, path, kind.read)
    assert re.match(f"{re.escape(str(path))}: .*{CAUSES[lay]}", str(refused.value))
    assert not re.search("corrupt|damaged|remove", str(refused.value))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ETIMEDOUT])
def test_a_disk_that_fails_is_named_with_the_words_of_the_system(number: int) -> None:
    words = os.strerror(number)
    in_hdf5 = OSError(f"Can't read data (file read failed: time = now, errno = {number}, error message = '{words}')")
    for error in (OSError(number, words), in_hdf5):
        cause = outside_cause(error)
        assert cause is not None
        assert cause.startswith("is on a disk or a network share that fails or is gone.")
        assert cause.endswith(f"({words})")


@every_format
def test_skip_says_apart_what_may_be_good_and_no_cache_remembers_it(tmp_path: Path, kind: Format) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    paths = [folder / f"episode_20251204_10100{i}{kind.suffix}" for i in range(4)]
    for path in paths[:3]:
        kind.write(path)
    paths[3].write_text("corrupt")
    layout = (f"dataset/layout={kind.layout}", "dataset.actions=all")
    dataset = h5_dataset(
        folder, *layout, "dataset.on_bad_episode=skip", "dataset.val_fraction=0.5", "dataset.fwd_pred_next_n=2"
    )
    with paths[0].open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        data = dataset.open()
        assert len(data.episodes) == 2
        assert f"1 bad episode file(s) skipped: {paths[3]}" in data.warnings
        [left_out] = [text for text in data.warnings if "may be good" in text]
        assert left_out.startswith("1 episode file(s) left out that may be good, for causes outside of them: ")
        assert f"{paths[0]}: cannot be locked" in left_out
        loud = h5_dataset(folder, *layout)
        with pytest.raises(DataError, match=r"1 episode file\(s\) cannot be read now, and may be good"):
            loud.open()
    assert len(dataset.open().episodes) == 3


@every_format
def test_a_lock_that_comes_while_frames_are_decoded_is_not_kept_as_damage(tmp_path: Path, kind: Format) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    for name in (NAME, OTHER):
        kind.write(folder / f"{name}{kind.suffix}")
    recordings, _, _ = read_folder(folder, kind)
    digests = digest_recordings(recordings, cache_dir=tmp_path / "cache")
    with recordings[1].path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        store, problems = frames_of(folder, recordings, kind, digests=digests)
    assert list(store.first_row) == [NAME + kind.episode]
    assert isinstance(problems[OTHER + kind.episode], UnreadableNowError)
    store, problems = frames_of(folder, recordings, kind, digests=digests)
    assert problems == {}
    np.testing.assert_array_equal(store.cameras[kind.camera][4:], images())


@every_format
def test_frames_of_another_content_than_was_digested_are_not_cached(tmp_path: Path, kind: Format) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    path = folder / f"{NAME}{kind.suffix}"
    kind.write(path)
    recordings, _, _ = read_folder(folder, kind)
    digests = digest_recordings(recordings, cache_dir=tmp_path / "cache")
    kind.write(path, seed=1)
    _, problems = frames_of(folder, recordings, kind, digests=digests)
    assert "was written while it was read" in str(problems[recordings[0].name])
    shutil.rmtree(folder)
    folder.mkdir()
    kind.write(path)
    store, problems = frames_of(folder, recordings, kind, digests=digests)
    assert problems == {}
    np.testing.assert_array_equal(store.cameras[kind.camera], images())
