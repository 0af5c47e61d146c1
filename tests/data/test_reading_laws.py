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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_episodes import actions, h5_dataset, images
from mutated_episodes import HOSTILE, torture_episodes, write_outside
from reading_causes import (
    as_nobody,
    find_in,
    gone,
    killed_writer,
    locked,
    memory_of,
    no_descriptor_left,
    no_permission,
    read_hdf5,
    without_plugin,
)

from mobile_vla.data.episodes import scan_episodes
from mobile_vla.data.frames import ImageOptions, digest_files, open_frames
from mobile_vla.data.hdf5_errors import outside_cause
from mobile_vla.data.instruction import Instruction
from mobile_vla.data.reading.process import ask
from mobile_vla.errors import DataError, UnreadableNowError
from mobile_vla.schema import Episode

NAME = "episode_20251204_101000"
OTHER = "episode_20251204_101001"
OPTIONS = ImageOptions(size=(6, 8), resize="direct", channel_order="rgb")
Write = Callable[[Path], object]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format: how a sound recording of 4 frames is written, and bad ones, each with what must be said of it."""

    suffix: str
    write: Write
    points_outside: Mapping[str, tuple[Callable[[Path, Path], object], str]]  # (path, episode outside)
    not_written: Mapping[str, tuple[Write, str]]
    claims_too_much: Mapping[str, tuple[Write, str]]
    read: Callable[[Path], object]  # a function of a module, to be called where a cause lies in its way


def write_hdf5(path: Path, *, num_frames: int = 4, seed: int = 0, without: str = "") -> None:
    with h5py.File(path, "w") as file:
        if without != "images":
            frames = images(num_frames, seed=seed)
            file.create_dataset("images", data=frames, chunks=(1, 6, 8, 3), compression="gzip")
        if without != "actions":
            file["actions"] = actions(num_frames, seed=seed) + 0.01
        if without != "language_instruction":
            file["language_instruction"] = np.array([b"go"], "S256")


def hdf5_with(key: str, create: Callable[[h5py.File], object]) -> Write:
    """Return what writes a sound file but for ``key``, which ``create`` makes."""

    def write(path: Path) -> None:
        write_hdf5(path, without=key)
        with h5py.File(path, "a") as file:
            create(file)

    return write


def hdf5_of(key: str, shape: tuple[int, ...], dtype: str, num_written: int = 0, **options: object) -> Write:
    """Write a data set of which only the first rows are written, with ones."""

    def create(file: h5py.File) -> None:
        dataset = file.create_dataset(key, shape, dtype, **options)
        if num_written:
            dataset[:num_written] = 1

    return hdf5_with(key, create)


def early(key: str, shape: tuple[int, ...], dtype: str, chunks: tuple[int, ...] | None) -> Write:
    """Write a data set whose space was taken, and filled with zeros, before anything was written."""

    def create(file: h5py.File) -> None:
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        settings.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
        if chunks:
            settings.set_chunk(chunks)
        kind, space = h5py.h5t.py_create(np.dtype(dtype)), h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, key.encode(), kind, space, settings)

    return hdf5_with(key, create)


_POINTS_OUTSIDE = {
    "external link": "is an external link",
    "soft link outside": "is an external link",
    "external group": "is an external link",
    **{f"virtual of {source}": "is a virtual data set" for source in ("itself", "its own file", "another", "missing")},
    "external storage": "has external storage",
}
_ROWS = "were never written and would read as zeros"

HDF5 = Format(
    suffix=".h5",
    write=write_hdf5,
    points_outside={
        f"{kind}, {key}": (lambda path, outside, make=HOSTILE[kind], key=key: make(path, key, outside), text)
        for kind, text in _POINTS_OUTSIDE.items()
        for key in ("images", "actions", "language_instruction")
    },
    not_written={
        "contiguous images": (hdf5_of("images", (4, 6, 8, 3), "u1"), rf"'images' .* Rows 0\.\.3 {_ROWS}"),
        "partly written contiguous images": (
            hdf5_of("images", (4, 6, 8, 3), "u1", 2),
            r"'images' is zero in every pixel of the rows 2\.\.3",
        ),
        "images of some chunks": (
            hdf5_of("images", (4, 6, 8, 3), "u1", 3, chunks=(1, 6, 8, 3), compression="gzip"),
            rf"'images' has only 3 of 4 chunks.* Rows 3\.\.3 {_ROWS}",
        ),
        "images of no chunk": (
            hdf5_of("images", (4, 6, 8, 3), "u1", chunks=(2, 3, 8, 3)),
            rf"'images' has only 0 of 4 chunks.* Rows 0\.\.3 {_ROWS}",
        ),
        "images that were only allocated": (early("images", (4, 6, 8, 3), "u1", None), r"'images' .* rows 0\.\.3"),
        "chunks that were only allocated": (
            early("images", (4, 6, 8, 3), "u1", (1, 6, 8, 3)),
            r"'images' .* rows 0\.\.3",
        ),
        "contiguous actions": (hdf5_of("actions", (4, 3), "f4"), rf"'actions' .* Rows 0\.\.3 {_ROWS}"),
        "actions that were only allocated": (early("actions", (4, 3), "f4", None), r"'actions' .* rows, 0\.\.3"),
        "actions of some chunks": (
            hdf5_of("actions", (4, 3), "f4", 1, chunks=(1, 3), maxshape=(None, 3)),
            rf"'actions' has only 1 of 4 chunks.* Rows 1\.\.3 {_ROWS}",
        ),
        "instruction": (hdf5_of("language_instruction", (1,), "S256"), "'language_instruction' has no bytes"),
        "short chunk": (
            lambda path: HOSTILE["short chunk"](path, "images", path),
            "'images' cannot be decoded .* unpacks to 5 bytes",
        ),
    },
    claims_too_much={
        "images, contiguous": (
            hdf5_of("images", (900_000, 480, 640, 3), "u1"),
            r"'images' claims .* but the file has \d+: it is damaged",
        ),
        "images, in chunks": (
            hdf5_of("images", (900_000, 480, 640, 3), "u1", chunks=(1, 480, 640, 3), compression="gzip"),
            "'images' .* damaged or hostile",
        ),
        "too many frames": (hdf5_of("images", (2**40, 6, 8, 3), "u1", chunks=(1, 6, 8, 3)), "expected at most 1000000"),
        "too many pixels": (hdf5_of("images", (4, 2**20, 2**20, 3), "u1"), "frames of 33554432 pixels"),
        "a chunk too large": (
            hdf5_of("images", (400, 2000, 2000, 3), "u1", chunks=(400, 2000, 2000, 3), compression="gzip"),
            "'images' needs 4578 MiB of memory",
        ),
        "actions": (hdf5_of("actions", (900_000, 3), "f4"), "'actions' claims"),
        "too many actions": (hdf5_of("actions", (2**40, 3), "f4", chunks=(1, 3)), "'actions' .* at most 1000000 rows"),
        "a text of 2 GB": (
            lambda path: HOSTILE["giant text"](path, "language_instruction", path),
            "'language_instruction' is 2147483647 bytes long",
        ),
        **{
            kind: (lambda path, make=HOSTILE[kind]: make(path, "images", path), text)
            for kind, text in {
                "pipe": "is a named pipe",
                "socket": "is a socket",
                "device": "is a device",
                "loop": "is a link to",
                "cycle of hard links": "found a, a/b, actions",
            }.items()
        },
    },
    read=read_hdf5,
)

FORMATS = {"hdf5": HDF5}


def cases(law: str) -> list:
    return [
        pytest.param(each, *case, id=f"{name}: {kind}")
        for name, each in FORMATS.items()
        for kind, case in getattr(each, law).items()
    ]


every_format = pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)


def scan(folder: Path) -> tuple[list[Episode], list[DataError], list[str]]:
    """Scan the folder as a data set does, pixels included."""
    instruction = Instruction(order=["file", "constant"], template="", constant="go")
    episodes, problems, warnings = scan_episodes(
        folder, grammars={}, instruction=instruction, action_names=["linear_x"]
    )
    cache_dir = folder.parent / "cache"
    digests = digest_files([e.path for e in episodes], cache_dir=cache_dir)
    _, undecodable = open_frames(episodes, options=OPTIONS, digests=digests, cache_dir=cache_dir, num_workers=1)
    usable = [e for e in episodes if e.name not in undecodable]
    return usable, [*problems, *undecodable.values()], warnings


def only_problem(folder: Path, kind: Format, write: Write) -> DataError:
    """Return what is said of the recording that ``write`` writes beside a sound one, which must be read."""
    folder.mkdir()
    kind.write(folder / f"{NAME}{kind.suffix}")
    path = folder / f"{OTHER}{kind.suffix}"
    write(path)
    started = time.monotonic()
    episodes, problems, _ = scan(folder)
    assert time.monotonic() - started < 5
    assert [e.name for e in episodes] == [NAME]
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


@pytest.mark.parametrize("chunks", [None, (1, 480, 640, 3), (25, 480, 640, 3)])
def test_the_memory_does_not_grow_with_the_length_of_an_episode(tmp_path: Path, chunks: tuple[int, ...] | None) -> None:
    path = tmp_path / f"{NAME}.h5"
    with h5py.File(path, "w") as file:
        options = {"chunks": chunks, "compression": "gzip"} if chunks else {}
        dataset = file.create_dataset("images", (200, 480, 640, 3), "u1", **options)
        if chunks is None:
            dataset[-1] = np.ones((480, 640, 3), np.uint8)  # the file has a hole where the others are
        for first in range(0, 200, chunks[0]) if chunks else ():
            dataset.id.write_direct_chunk((first, 0, 0, 0), zlib.compress(bytes(int(np.prod(chunks)))))
    num_bytes, grown = ask(memory_of, path)
    assert num_bytes == 200 * 480 * 640 * 3
    assert grown < 80 * 2**20


@every_format
def test_mutated_recordings_crash_hang_and_make_up_nothing(tmp_path: Path, kind: Format) -> None:
    figures = torture_episodes(tmp_path, count=4 * len(HOSTILE), seed=5)
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
    episodes, problems, warnings = scan(folder)
    assert problems == []
    assert [e.path for e in episodes] == [
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
    episodes, problems, warnings = scan(folder)
    assert ([e.name for e in episodes], problems) == ([NAME], [])
    assert warnings[0] == f"2 hidden file(s) or folder(s) left out: .{NAME}{kind.suffix}, .trash"
    assert warnings[1].startswith("2 file(s) are HDF5 but not named .h5 or .hdf5, and are left out: b.hdf, c/d.backup")
    dataset = h5_dataset(folder, "dataset.val_fraction=0.5")
    assert list(dataset.scan().warnings) == warnings
    (folder / f"{NAME}{kind.suffix}").unlink()
    with pytest.raises(DataError, match=r"holds no episode file .* 2 hidden .* 2 file\(s\) are HDF5"):
        scan(folder)


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
    no_descriptor_left: r"cannot be opened beside so many other files\. .*ulimit -n\) \(Too many open files\)",
    locked: "cannot be locked: a program holds it open for writing.*recorder.*HDF5_USE_FILE_LOCKING=FALSE",
    killed_writer: "is open for writing elsewhere, or the program that wrote it was killed.*h5clear",
    gone: "is gone since its folder was read",
    without_plugin: r"'actions' is compressed with filter 32001 \(blosc\), which is missing\. .*pip install hdf5plugin",
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
    dataset = h5_dataset(folder, "dataset.on_bad_episode=skip", "dataset.val_fraction=0.5", "dataset.fwd_pred_next_n=2")
    with paths[0].open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        data = dataset.open()
        assert len(data.episodes) == 2
        assert f"1 bad episode file(s) skipped: {paths[3]}" in data.warnings
        [left_out] = [text for text in data.warnings if "may be good" in text]
        assert left_out.startswith("1 episode file(s) left out that may be good, for causes outside of them: ")
        assert f"{paths[0]}: cannot be locked" in left_out
        loud = h5_dataset(folder)
        with pytest.raises(DataError, match=r"1 episode file\(s\) cannot be read now, and may be good"):
            loud.open()
    assert len(dataset.open().episodes) == 3


@every_format
def test_a_lock_that_comes_while_frames_are_decoded_is_not_kept_as_damage(tmp_path: Path, kind: Format) -> None:
    folder, cache_dir = tmp_path / "episodes", tmp_path / "cache"
    folder.mkdir()
    for name in (NAME, OTHER):
        kind.write(folder / f"{name}{kind.suffix}")
    constant = Instruction(order=["constant"], template="", constant="go")
    episodes, _, _ = scan_episodes(folder, grammars={}, instruction=constant, action_names=["linear_x"])
    digests = digest_files([e.path for e in episodes], cache_dir=cache_dir)
    with episodes[1].path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        store, problems = open_frames(episodes, options=OPTIONS, digests=digests, cache_dir=cache_dir, num_workers=1)
    assert list(store.first_row) == [NAME]
    assert isinstance(problems[OTHER], UnreadableNowError)
    store, problems = open_frames(episodes, options=OPTIONS, digests=digests, cache_dir=cache_dir, num_workers=1)
    assert problems == {}
    np.testing.assert_array_equal(store.images_FYXC[4:], images())


@every_format
def test_frames_of_another_content_than_was_digested_are_not_cached(tmp_path: Path, kind: Format) -> None:
    folder, cache_dir = tmp_path / "episodes", tmp_path / "cache"
    folder.mkdir()
    path = folder / f"{NAME}{kind.suffix}"
    kind.write(path)
    constant = Instruction(order=["constant"], template="", constant="go")
    episodes, _, _ = scan_episodes(folder, grammars={}, instruction=constant, action_names=["linear_x"])
    digests = digest_files([path], cache_dir=cache_dir)
    write_hdf5(path, seed=1)
    _, problems = open_frames(episodes, options=OPTIONS, digests=digests, cache_dir=cache_dir, num_workers=1)
    assert "was written while it was read" in str(problems[NAME])
    shutil.rmtree(folder)
    folder.mkdir()
    kind.write(path)
    store, problems = open_frames(episodes, options=OPTIONS, digests=digests, cache_dir=cache_dir, num_workers=1)
    assert problems == {}
    np.testing.assert_array_equal(store.images_FYXC, images())
