"""Laws of reading a recording, for bags; the tests have the names of those for HDF5 episodes and tubs."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
import tracemalloc
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_bags import KINDS, picture, raw_image, twist, write_drive
from test_bag_source import CACHE, images_of, problem_of, read_one, source_of, write
from test_tub_laws import someone_else
from tiny_runs import slow_but

from mobile_vla.data.episodes import read_recordings
from mobile_vla.data.reading.process import ask
from mobile_vla.data.sources.bags.alignment import MAX_LEFT_OUT, from_runs, newest_before, split_at_gaps, to_runs
from mobile_vla.data.sources.bags.bag_files import is_bag
from mobile_vla.errors import DataError, UnreadableNowError

pytest.importorskip("rosbags")

NUM_SPOILED = int(os.environ.get("NUM_SPOILED", "25"))

TIMES = st.lists(st.integers(-20, 20), max_size=12)


@given(TIMES, TIMES)
def test_the_newest_message_is_the_last_of_those_at_or_before_a_frame(times: list[int], frames: list[int]):
    found = newest_before(np.array(times, np.int64), np.array(frames, np.int64))
    for frame, index in zip(frames, found.tolist(), strict=True):
        before = [(time, i) for i, time in enumerate(times) if time <= frame]
        assert index == (max(before)[1] if before else -1)


@given(st.lists(st.integers(0, 30), max_size=20))
def test_runs_give_the_numbers_back(numbers: list[int]):
    assert from_runs(to_runs(numbers)) == numbers


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=30), st.integers(1, 5))
def test_every_frame_is_in_one_run_and_runs_end_at_gaps_and_holes(steps: list[tuple[int, bool]], gap: int):
    times = np.cumsum([step for step, _ in steps]).astype(np.int64)
    kept = np.array([i for i, (_, is_kept) in enumerate(steps) if is_kept], np.int64)
    runs = split_at_gaps(times[kept] * 10**9, kept, gap)
    assert [i for run in runs for i in run] == list(range(len(kept)))
    ends = {run[-1] for run in runs}
    for i in range(len(kept) - 1):
        is_far = times[kept[i + 1]] - times[kept[i]] > gap
        num_lost = kept[i + 1] - kept[i] - 1
        assert (i in ends) == (is_far or num_lost > MAX_LEFT_OUT)
    assert len(split_at_gaps(times[kept], kept, None)) == min(1, len(kept))


def look_at_all(path: Path) -> int:
    """Read all recordings of a bag and decode all frames, in a reading process."""
    source = source_of(path)
    num_frames = 0
    for file in source.find().files:
        steps = source.read(file)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found = end.value
                break
        for recording in found:
            for camera in recording.spec.camera_names:
                num_frames += sum(len(block) for block in source.frames(recording, camera))
    return num_frames


def storage_of(bag: Path) -> Path:
    return bag if bag.is_file() else next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))


def spoil(path: Path, rng: random.Random) -> None:
    """Cut a file, flip bits of it, or fill a part with zeros."""
    content = bytearray(path.read_bytes())
    way = rng.choice(["cut", "flip", "flip", "flip", "zeros", "remove"])
    at = rng.randrange(len(content))
    if way == "cut":
        del content[at:]
    elif way == "zeros":
        end = min(len(content), at + rng.choice([8, 200, 4096]))
        content[at:end] = bytes(end - at)
    elif way == "remove":
        del content[at : at + rng.choice([1, 50])]
    else:
        for _ in range(rng.choice([1, 1, 8])):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def look_at_each(folder: Path) -> Generator[None, None, dict[str, str]]:
    """Return the error of each bag in the folders of ``folder``; an empty text where it can be read."""
    messages = {}
    for place in sorted(folder.iterdir()):
        messages[str(place / "bag")] = ""
        try:
            look_at_all(place)
        except DataError as error:
            messages[str(place / "bag")] = f"{type(error).__name__}: {error}"
        yield
    return messages


@pytest.mark.parametrize("kind", slow_but(KINDS, ("mcap alone", "sqlite3", "ros1")))
def test_bounded_whatever_is_wrong(tmp_path: Path, kind: str):
    whole = write_drive(tmp_path / "bag", kind, num_frames=4)
    for seed in range(NUM_SPOILED):
        bag = tmp_path / "spoiled" / str(seed) / whole.name
        bag.parent.mkdir(parents=True)
        (shutil.copytree if whole.is_dir() else shutil.copy)(whole, bag)
        rng = random.Random(f"{kind} {seed}")
        metadata = bag / "metadata.yaml"
        spoil(metadata if metadata.exists() and rng.random() < 0.2 else storage_of(bag), rng)
    # One request for all: a new reading process, as after each error, would import everything again.
    messages = ask(look_at_each, tmp_path / "spoiled")
    assert len(messages) == NUM_SPOILED
    assert any(messages.values())
    for bag, message in messages.items():
        assert message.startswith(("DataError: " + bag, "DataError: " + bag.removesuffix("/bag"))) or not message
        assert len(message) < 1000


def reword(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


BAD: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "empty": ("mcap alone", lambda bag: os.truncate(bag, 0), r"is empty \(0 bytes\); expected"),
    "pointer": ("ros1", lambda bag: bag.write_text("version https://git-lfs"), "is a Git LFS pointer"),
    "other content": ("mcap alone", lambda bag: bag.write_text("hello world"), "begins with b'hello wor'; expected"),
    "cut mcap": ("mcap alone", lambda bag: os.truncate(bag, 2000), "File end magic is invalid.*mcap recover"),
    "cut bag": ("ros1", lambda bag: os.truncate(bag, 5000), "is truncated or damaged"),
    "unindexed bag": ("ros1", lambda bag: zero_index(bag), "not indexed.*rosbag reindex"),
    "missing storage": (
        "sqlite3",
        lambda bag: storage_of(bag).unlink(),
        r"bag.db3 is missing, but metadata.yaml names",
    ),
    "bad metadata": (
        "mcap",
        lambda bag: (bag / "metadata.yaml").write_text("rosbag2_bagfile_information: 3"),
        "not that",
    ),
    "counts more": (
        "sqlite3",
        lambda bag: reword(bag / "metadata.yaml", "message_count: 4\n", "message_count: 9\n"),
        "counts 19 messages of .*, and 9 are there",
    ),
    "compressed as a whole": (
        "mcap",
        lambda bag: reword(bag / "metadata.yaml", "compression_mode: ''", "compression_mode: FILE"),
        "is compressed as a whole .*ros2 bag convert",
    ),
    "not closed": (
        "sqlite3",
        lambda bag: storage_of(bag).with_name("bag.db3-wal").write_bytes(b"1"),
        "bag.db3 was not closed: messages are still in bag.db3-wal",
    ),
    "storage outside": (
        "mcap",
        lambda bag: (
            storage_of(bag).rename(bag.parent / "x.mcap"),
            (bag / "bag.mcap").symlink_to(bag.parent / "x.mcap"),
        ),
        "lies outside of it",
    ),
    "lost rows": ("sqlite3", lambda bag: lose_commands(bag), "counts 9 messages of .*, and 6 are there"),
}


def move_out(file: Path, folder: Path) -> None:
    file.rename(folder / file.name)
    file.symlink_to(folder / file.name)


def zero_index(bag: Path) -> None:
    content = bag.read_bytes()
    at = content.index(b"index_pos=") + len(b"index_pos=")
    bag.write_bytes(content[:at] + bytes(8) + content[at + 8 :])


def lose_commands(bag: Path) -> None:
    with sqlite3.connect(storage_of(bag)) as connection:
        connection.execute(
            "delete from messages where id in (select max(id) from messages union select 3 union select 4)"
        )
    connection.close()


@pytest.mark.parametrize("name", BAD)
def test_written_and_self_contained(tmp_path: Path, name: str):
    kind, damage, message = BAD[name]
    bag = write_drive(tmp_path / "inside" / "bag", kind, num_frames=4)
    damage(bag)
    place = bag if bag.is_dir() else bag.parent
    scanned = read_recordings(source_of(place), cache_dir=CACHE, num_workers=1)
    assert list(scanned.recordings) == []
    (problem,) = scanned.problems
    assert str(problem).startswith(f"{bag}: ")
    with pytest.raises(DataError, match=message):
        raise problem


def test_names_of_definitions_are_words(tmp_path: Path):
    # rosbags writes Python code of the definitions: its grammar accepts words alone, and we look at them again.
    bag = write_drive(tmp_path / "bag", "sqlite3", num_frames=3)
    with sqlite3.connect(storage_of(bag)) as connection:
        connection.execute(
            "update message_definitions set encoded_message_definition = ? where topic_type like '%Twist'",
            ("float64 x\nfloat64 a=3;import_os\n",),
        )
    connection.close()
    assert "is truncated or damaged" in problem_of(bag)


@pytest.mark.parametrize("kind", slow_but(["mcap", "sqlite3", "ros1"], ["mcap", "ros1"]))
def test_bounded_memory_whatever_the_length_of_an_episode(tmp_path: Path, kind: str):
    pixels = picture(0, (240, 320))
    images = [raw_image(50 * i, pixels, "rgb8") for i in range(200)]  # 46 MB
    bag = write(tmp_path, [*images, *(twist(50 * i, i) for i in range(200))], kind)
    tracemalloc.start()
    try:
        recording = read_one(bag)
        blocks = source_of(bag).frames(recording, "camera")
        num_frames = sum(len(block) for block in blocks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert num_frames == 200
    assert peak < 25e6


def test_everything_is_counted(tmp_path: Path):
    for place in ("a", "b"):
        write_drive(tmp_path / place / "run", "mcap", num_frames=3)
    write_drive(tmp_path / "c" / "single", "ros1", num_frames=3)
    (tmp_path / "c" / "x.bag.active").write_bytes(b"#ROSBAG V2.0\n")
    (tmp_path / "c" / "metadata.yaml").write_text("title: notes\n")
    (tmp_path / "c" / ".hidden.mcap").touch()
    scanned = read_recordings(source_of(tmp_path), cache_dir=CACHE, num_workers=2)
    assert [recording.name for recording in scanned.recordings] == ["a_run", "b_run", "c_single"]
    assert scanned.problems == []
    assert any(
        "1 bag(s) were never closed by their recorder and are left out: c/x.bag.active" in w for w in scanned.warnings
    )
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "run_2").symlink_to(tmp_path / "a" / "run")
    assert [file.path.name for file in source_of(tmp_path / "linked").find().files] == ["run_2"]
    found = source_of(tmp_path).find()
    assert len(found.files) == 3  # a bag that is read twice would be in train and in val
    assert any("1 link(s) lead to recordings that are there already" in warning for warning in found.warnings)
    assert is_bag(tmp_path / "a" / "run")
    assert is_bag(tmp_path / "c" / "single.bag")
    assert not is_bag(tmp_path / "c")
    assert not is_bag(tmp_path / "c" / "metadata.yaml")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no bag"):
        source_of(tmp_path / "none").find()
    with pytest.raises(DataError, match="no such folder"):
        source_of(tmp_path / "absent").find()


@pytest.mark.parametrize("kind", KINDS)
def test_the_cause_is_named_where_permission_is_missing(kind: str):
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to others
        Path(place).chmod(0o777)
        bag = write_drive(Path(place) / "bag", kind, num_frames=3)
        file = next(iter(source_of(bag).find().files))
        storage_of(bag).chmod(0)
        with someone_else(), pytest.raises(UnreadableNowError, match=r"bag.*there is no permission.*chmod") as caught:
            list(source_of(bag).read(file))
        assert str(caught.value).startswith(f"{bag}: ")


def test_a_folder_with_a_sign_of_its_own_is_read_or_named(tmp_path: Path):
    for sign in "#?%":
        for kind, folder in (("sqlite3", tmp_path / f"run {sign}1"), ("mcap", tmp_path / f"run {sign}2")):
            write_drive(tmp_path / "plain" / "bag", kind, num_frames=3)
            (tmp_path / "plain").rename(folder)  # the writer of rosbags has the same fault
        assert "cannot be opened. Rename it" in problem_of(tmp_path / f"run {sign}1" / "bag")
        bag = tmp_path / f"run {sign}2" / "bag"
        assert len(images_of(bag, read_one(bag))) == 2
