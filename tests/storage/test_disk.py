"""Check that a disk that is full, read-only or limited is a sentence, and that nothing half stays behind."""

from __future__ import annotations

import errno
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutated_tubs import write_small_tub
from safetensors.numpy import save_file
from tiny_disks import tiny_disk
from tiny_runs import Ran

from mobile_vla.commands import cli
from mobile_vla.data.episode_writer import write_episode
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.storage.disk import storage_errors, unwritable_errors, write_atomically
from mobile_vla.text import sizes
from mobile_vla.tracking.ownership import owned

COLLECT = """
import sys
from pathlib import Path
from mobile_vla.errors import ConfigError, UserError
from mobile_vla.sim.demonstrations.collect import SimEpisodes

generator = SimEpisodes(
    num_episodes=4, named_by=["side"], imbalance=1, seed=0, image_size=64, num_workers=int(sys.argv[2])
)
try:
    generator.ensure(Path(sys.argv[1]))
except UserError as error:
    sys.exit(f"error: {error}")
"""


def noise(num_frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, 24, 32, 3)).astype(np.uint8)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own: only its end shows a signal."""
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)


def import_into(out: Path, tub: Path) -> subprocess.CompletedProcess[str]:
    return run("-m", "mobile_vla", "import", "donkeycar", tub, out, "--min-frames", "1", "--max-frames", "5")


def test_an_import_on_a_full_disk_says_need_and_have_and_leaves_what_was_there(tmp_path: Path):
    tub = write_small_tub(tmp_path / "tub")
    with tiny_disk(tmp_path / "disk", kib=60) as disk:
        (disk / "mine").write_bytes(b"x" * 10_000)
        done = import_into(disk / "out", tub)
        assert done.returncode == 1
        assert "out: the episodes cannot be written: the disk is full: about " in done.stderr
        assert "KiB are needed and 48.0 KiB are free. Make room" in done.stderr
        assert "Traceback" not in done.stderr
        assert [path.name for path in disk.iterdir()] == ["mine"]
        assert (disk / "mine").read_bytes() == b"x" * 10_000


def test_an_import_to_a_read_only_disk_says_so(tmp_path: Path):
    tub = write_small_tub(tmp_path / "tub")
    with tiny_disk(tmp_path / "disk", kib=60, options=",ro") as disk:
        done = import_into(disk / "out", tub)
        assert (done.returncode, done.stdout) == (1, "")
        assert "out: the episodes cannot be written: the file system is read-only. Give a place" in done.stderr


def test_a_whole_disk_is_no_place_for_an_import(tmp_path: Path):
    tub = write_small_tub(tmp_path / "tub")
    with tiny_disk(tmp_path / "disk", kib=9000) as disk:
        done = import_into(disk, tub)
    assert done.returncode == 1
    assert "disk is a whole disk (a mount point). Name a new folder in it." in done.stderr


def test_data_that_are_made_on_a_full_disk_leave_nothing_half(tmp_path: Path):
    with tiny_disk(tmp_path / "disk", kib=200) as disk:
        done = run("-c", COLLECT, disk, "2")
        assert done.returncode == 1, done.stderr
        assert "the episodes cannot be written: the disk is full: about " in done.stderr
        assert "Traceback" not in done.stderr
        assert [path.suffix for path in disk.rglob("*")] == [".lock"]


def test_data_that_are_made_on_a_read_only_disk_say_so(tmp_path: Path):
    with tiny_disk(tmp_path / "disk", kib=200, options=",ro") as disk:
        done = run("-c", COLLECT, disk / "data", "1")
    assert done.returncode == 1
    assert "the file system is read-only" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_episode_that_does_not_fit_leaves_the_one_before(tmp_path: Path):
    with tiny_disk(tmp_path / "disk", kib=100) as disk:
        path = disk / "episode.h5"
        write_episode(path, images_FYXC=noise(2), actions_FA=np.ones((2, 3), np.float32))
        before = path.read_bytes()
        with pytest.raises(OSError, match="No space left"):
            write_episode(path, images_FYXC=noise(200), actions_FA=np.ones((200, 3), np.float32))
        assert [path.name for path in disk.iterdir()] == ["episode.h5"]
        assert path.read_bytes() == before


def test_an_episode_has_the_bytes_that_hdf5_writes_to_a_disk(tmp_path: Path):
    images, actions = noise(30), np.ones((30, 3), np.float32)
    write_episode(tmp_path / "a.h5", images_FYXC=images, actions_FA=actions, instruction="go", attributes={"x": 1})
    with h5py.File(tmp_path / "direct.h5", "w") as file:
        form = {"chunks": (1, 24, 32, 3), "compression": "gzip", "compression_opts": 1, "track_times": False}
        file.create_dataset("images", data=images, **form)
        file.create_dataset("actions", data=actions, track_times=False)
        events = ["episode_start", *["start_action"] * 29]
        file.create_dataset("action_event_types", data=events, dtype=h5py.string_dtype("utf-8"), track_times=False)
        file.create_dataset("language_instruction", data=np.array([b"go"], dtype="S256"), track_times=False)
        file.attrs["episode_name"] = "a"
        file.attrs["num_frames"] = 30
        file.attrs["x"] = 1
    whole = (tmp_path / "a.h5").read_bytes()
    assert whole == (tmp_path / "direct.h5").read_bytes()
    write_episode(
        tmp_path / "a.h5", images_FYXC=iter(images), actions_FA=actions, instruction="go", attributes={"x": 1}
    )
    assert whole == (tmp_path / "a.h5").read_bytes()


def refuse(path: Path, num_bytes: int) -> str:
    """Return what is said of a file that does not fit."""
    with pytest.raises(UserError) as caught, storage_errors(path, what="the file", num_bytes=num_bytes):
        write_atomically(path, bytes(num_bytes))
    assert not path.exists()
    return str(caught.value)


def test_need_and_have_differ_however_small_the_difference(tmp_path: Path):
    with tiny_disk(tmp_path / "disk", kib=64) as disk:
        said = refuse(disk / "file", 65_546)
    assert said.endswith(
        "the disk is full: 64.01 KiB are needed and 64.00 KiB are free. Make room, or give a place on another disk."
    )


def test_a_disk_without_room_for_another_file_is_told_from_a_full_one(tmp_path: Path):
    with tiny_disk(tmp_path / "disk", kib=64, options=",nr_inodes=1") as disk:
        assert "has no room for one more file" in refuse(disk / "file", 10)


def test_a_limit_of_the_account_is_told_from_a_full_disk(tmp_path: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        said = refuse(tmp_path / "file", 4096)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "4.0 KiB is more than a file may hold there (`ulimit -f`)" in said


def test_the_cause_is_found_in_the_text_of_others_errors(tmp_path: Path):
    with tiny_disk(tmp_path / "disk", kib=64) as disk:
        path = disk / "model.safetensors"
        with pytest.raises(UserError, match=r"the weights cannot be written: the disk is full"):  # noqa: SIM117
            with storage_errors(path, what="the weights", num_bytes=400_000, partial=path):
                save_file({"a": np.zeros(100_000, np.float32)}, path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE, errno.EDQUOT, errno.EROFS])
def test_each_cause_has_its_sentence(tmp_path: Path, number: int):
    with (
        pytest.raises(UserError, match="the rows cannot be written: ") as caught,
        storage_errors(tmp_path, what="the rows"),
    ):
        raise OSError(number, "x", str(tmp_path / "file"))
    words = {errno.EACCES: "permission", errno.EIO: "input/output", errno.ESTALE: "stale", errno.EMFILE: "ulimit -n"}
    assert words.get(number, "quota" if number == errno.EDQUOT else "read-only") in str(caught.value)


def test_errors_that_are_not_of_the_disk_pass_through(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), storage_errors(tmp_path, what="the rows"):
        raise ZeroDivisionError
    with pytest.raises(UserError, match=r"^mine$"), storage_errors(tmp_path, what="the rows"):
        raise UserError("mine")


@given(st.lists(st.integers(0, 2**50), min_size=1, max_size=4))
def test_sizes_that_differ_are_written_differently(numbers: list[int]):
    texts = sizes(*numbers)
    assert len(set(texts)) == len(set(numbers))
    assert all(text.endswith(("B", "KiB", "MiB", "GiB")) for text in texts)
    assert sizes(max(numbers), max(numbers) + 1)[0] != sizes(max(numbers), max(numbers) + 1)[1]


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path):
    tub = write_small_tub(tmp_path / "tub")
    (tmp_path / "file").touch()
    done = import_into(tmp_path / "file" / "out", tub)
    assert done.returncode == 1
    assert "a file of that name is there already" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_device_that_is_always_full_is_named():
    full = Path("/dev/full")
    with pytest.raises(UserError, match="the log cannot be written: the disk is full"):  # noqa: SIM117
        with storage_errors(full, what="the log"), full.open("wb") as file:
            file.write(b"x")


def fill(disk: Path, *, but_kib: int) -> None:
    (disk / "fill").write_bytes(bytes(shutil.disk_usage(disk).free - 1024 * but_kib))


COMMANDS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "compare": lambda run, disk: ("compare", disk),
    "export": lambda run, disk: ("export", run, disk / "out"),
    "losses": lambda run, disk: ("losses", run, disk / "out.csv"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_on_a_full_disk_names_its_place_its_need_and_what_is_free_there(
    command: str, whole: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tiny_disk(tmp_path / "disk", kib=600) as disk:
        (disk / "run").mkdir()
        for name in ("manifest.json", "summary.json"):
            shutil.copy(whole.folder / name, disk / "run")
        fill(disk, but_kib=4)
        before = sorted(disk.rglob("*"))
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in COMMANDS[command](whole.folder, disk)])
        after = sorted(path for path in disk.rglob("*") if path.name not in ("comparison.json", "comparison.csv"))
        assert after == before
    said = str(ended.value)
    assert re.match(rf"error: {disk}/[a-z.]*: [a-z ]+ cannot be written: the disk is full: ", said)
    assert re.search(r"full: (about )?[0-9.]+ .?i?B are needed and [0-9.]+ .?i?B are free\. Make room", said)


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    said = r"report\.html: cannot be opened: a folder of that name is there\. Remove it"
    with pytest.raises(UserError, match=said), unwritable_errors(tmp_path):
        write_atomically(tmp_path / "report.html", "page")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_run_on_a_disk_without_any_room_says_so(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", kib=60) as disk:
        (disk / "fill").write_bytes(bytes(shutil.disk_usage(disk).free))
        said = f"{disk}: the run cannot be written: the disk is full .0 B are free now.. Make room"
        with pytest.raises(ConfigError, match=said), owned(disk):
            pass
