"""Check that what is derived from the data is built again where it is damaged, and that a full disk is a sentence."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from made_episodes import actions, images, open_h5_frames
from tiny_runs import slow_but

from mobile_vla.commands import cli
from mobile_vla.data.episode_writer import write_episode
from mobile_vla.data.frames import ImageOptions
from mobile_vla.errors import UserError
from mobile_vla.sim.demonstrations.scripted import ScriptedEpisodes
from mobile_vla.storage.build_once import RECORD_FILE, build_once
from mobile_vla.storage.disk import allocate, unwritable_errors

OPTIONS = ImageOptions(size=(6, 8), resize="direct", channel_order="rgb")


def frames_of(folder: Path) -> bytes:
    """Return all frames of ``folder / "episodes"``, read through the cache beside them."""
    store, problems = open_h5_frames(folder / "episodes", options=OPTIONS, cache_dir=folder / "cache")
    assert not problems
    return np.asarray(store.cameras["camera"]).tobytes()


def sim_of(folder: Path) -> bytes:
    """Return the bytes of all files of a small data set that makes itself."""
    made = ScriptedEpisodes(num_left=1, num_right=1, seed=0, image_size=8, num_workers=0).ensure(folder / "cache")
    return b"".join(path.read_bytes() for path in sorted(made.glob("*.h5")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "episodes").mkdir()
    for i in range(2):
        path = tmp_path / f"episodes/episode_20251204_10100{i}.h5"
        write_episode(path, images_FYXC=images(3, seed=i), actions_FA=actions(3))
    return tmp_path


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was warned of; progress is logged too where a command was run before."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def largest(cache: Path) -> Path:
    return max((p for p in cache.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def resize(path: Path, num_bytes: int) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + num_bytes)


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        byte = file.read(1)[0]
        file.seek(0)
        file.write(bytes([byte ^ 255]))


def in_its_time(path: Path, damage: Callable[[Path], None]) -> None:
    before = path.stat()
    damage(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def to_file(cache: Path) -> None:
    shutil.rmtree(cache)
    cache.write_text("a file")


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "short": lambda cache: resize(largest(cache), -1),
    "long": lambda cache: resize(largest(cache), 1),
    "flipped": lambda cache: flip(largest(cache)),
    "flipped, its time put back": lambda cache: in_its_time(largest(cache), flip),
    "missing": lambda cache: largest(cache).unlink(),
    "a folder": lambda cache: to_folder(largest(cache)),
    "all missing": lambda cache: [p.unlink() for p in cache.iterdir()],
    "a file": to_file,
    "added": lambda cache: (cache / "added.h5").write_text("mine"),
    "no record": lambda cache: (cache / RECORD_FILE).unlink(),
    **{
        f"record {content}": lambda cache, content=content: (cache / RECORD_FILE).write_text(content)
        for content in ("", "{", "[]", "null", '{"format": 1}', '{"format": 0, "files": {}}', "[" * 100_000)
    },
}


# Both kinds of cache are checked by the same code; quick is the one of frames.
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("read", slow_but([frames_of, sim_of], [frames_of]))
def test_a_damaged_cache_is_built_again_and_said(
    folder: Path, read: Callable[[Path], bytes], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = read(folder)
    [cache] = [p for p in (folder / "cache").iterdir() if p.is_dir()]
    DAMAGES[damage](cache)
    with caplog.at_level(logging.WARNING):
        assert read(folder) == good
    said = [m for m in caplog.messages if m.endswith("It is built again.")]
    assert len(said) == 1
    assert said[0].startswith(f"{cache}: ")
    kept = list((folder / "cache").glob("*.set_aside_*/added.h5"))
    assert [p.read_text() for p in kept] == ["mine"] * (damage == "added")
    caplog.clear()
    assert read(folder) == good
    assert not warnings_in(caplog)


@pytest.mark.parametrize("read", [frames_of, sim_of])
def test_a_cache_that_was_copied_or_touched_is_the_same(
    folder: Path, read: Callable[[Path], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    good = read(folder)
    [cache] = [p for p in (folder / "cache").iterdir() if p.is_dir()]
    shutil.copytree(cache, folder / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(cache)
    (folder / "copy").rename(cache)
    built = largest(cache).stat()
    assert read(folder) == good
    assert not warnings_in(caplog)
    assert largest(cache).stat() == built


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", '{"a": 1}', '{"digest": "", "files": {"x": "y"}}', "[" * 100_000, None]
)
def test_a_damaged_memo_is_said_and_written_anew(
    folder: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    good = frames_of(folder)
    memo = folder / "cache/file_digests.json"
    if content is None:
        flipped = json.loads(memo.read_text())
        flipped["files"] = dict.fromkeys(flipped["files"], "0" * 32)
        content = json.dumps(flipped)
    memo.write_text(content)
    assert frames_of(folder) == good
    assert [m.startswith(f"{memo}: is damaged") for m in warnings_in(caplog)] == [True]
    caplog.clear()
    assert frames_of(folder) == good
    assert not warnings_in(caplog)


def test_a_cache_dir_that_is_a_file_is_a_sentence(folder: Path) -> None:
    (folder / "cache").write_text("a file")
    with pytest.raises(UserError, match="a file of that name is there already"):
        frames_of(folder)


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(37, "No locks available")])
def test_a_file_system_without_locks_is_a_sentence(
    folder: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lock: FileLock) -> None:
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(UserError, match=r"its file system has no locks.*Set dataset\.cache_dir"):
        frames_of(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB of its own; skipped where mounting one is not permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_a_sentence_and_leaves_nothing(small_disk: Path) -> None:
    def build(folder: Path) -> None:
        allocate(folder / "frames.u8", 2**20)

    with pytest.raises(UserError, match=r"cannot be written: the disk is full .*Make room"):
        build_once(small_disk / "made", build)
    assert [p.name for p in small_disk.iterdir()] == ["made.lock"]


def test_a_read_only_cache_is_used_where_it_is_whole(
    folder: Path, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "cache").symlink_to(small_disk)
    good = frames_of(folder)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert frames_of(folder) == good
    assert not warnings_in(caplog)
    os.utime(folder / "episodes/episode_20251204_101000.h5")
    assert frames_of(folder) == good
    assert "cannot be written" in caplog.text
    write_episode(folder / "episodes/episode_20251204_101009.h5", images_FYXC=images(3), actions_FA=actions(3))
    with pytest.raises(UserError, match=r"cannot be written: the file system is read-only\. Give a place"):
        frames_of(folder)


def test_a_command_on_a_full_disk_ends_with_a_sentence(folder: Path, small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_disk / "filler").write_bytes(bytes(2**20))
    with (
        pytest.raises(UserError, match=rf"^{small_disk}: this file cannot be written: the disk is full"),
        unwritable_errors(small_disk),
        (small_disk / "filler").open("ab") as file,
    ):
        file.write(bytes(2**20))
    with pytest.raises(SystemExit, match=r"^error: .*(the disk is full|are needed and|are free\. Make room)"):
        cli.main(
            [
                "inspect",
                "--pixels",
                str(folder / "episodes"),
                f"dataset.cache_dir={small_disk}",
                "dataset.num_workers=0",
            ]
        )
