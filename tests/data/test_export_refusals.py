"""An export is whole or not there, and what it cannot write it says before it begins."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from made_exports import ARM, dataset_of, export, scan_of, write_arm
from made_lerobot import write_v30
from tiny_disks import tiny_disk

from mobile_vla.commands.cli import main
from mobile_vla.data.exporters.export import export_data
from mobile_vla.errors import ConfigError, DataError, UserError
from mobile_vla.spec import Camera, Spec

EVEN = (Camera(name="front", rows=64, columns=64),)


def break_frame(path: Path, key: str = "images/front") -> None:
    """Overwrite the compressed bytes of the last frame of a file: all but its pixels can still be read."""
    with h5py.File(path, "r") as file:
        images = file[key]
        assert isinstance(images, h5py.Dataset)
        chunk = images.id.get_chunk_info(len(images) - 1)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)


def assert_nothing_left(out: Path) -> None:
    assert not out.exists()
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(f".{out.name}")] == []


@pytest.mark.parametrize("format", ["lerobot", "hdf5"])
def test_an_episode_that_cannot_be_decoded_ends_the_export_or_is_left_out(format: str, tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in")
    break_frame(path / "run_left_001.h5")
    with pytest.raises(DataError, match=r"run_left_001\.h5: key 'images/front'.*\n.*on_bad_episode=skip"):
        export(path, tmp_path / "out", format=format)
    assert_nothing_left(tmp_path / "out")
    report = export(path, tmp_path / "out", "dataset.on_bad_episode=skip", format=format)
    assert (report.num_episodes, report.num_frames) == (2, 9)
    assert "left out: 1 recording" in str(report)
    names = [
        recording.fields["episode_name"] for recording in scan_of(tmp_path / "out", tmp_path / "c").recordings.values()
    ]
    assert names == ["run_left_000", "run_left_002"]


def test_a_file_that_cannot_be_read_is_left_out_too(tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in")
    (path / "run_left_000.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match=r"run_left_000\.h5: is truncated"):
        export(path, tmp_path / "out", format="lerobot")
    assert export(path, tmp_path / "out", "dataset.on_bad_episode=skip", format="lerobot").num_episodes == 2


def test_no_export_without_an_episode(tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in", lengths=(4,))
    break_frame(path / "run_left_000.h5")
    for format in ("lerobot", "hdf5"):
        with pytest.raises(DataError, match="no usable episode is left"):
            export(path, tmp_path / "out", "dataset.on_bad_episode=skip", format=format)
        assert_nothing_left(tmp_path / "out")


def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path) -> None:
    path, out = write_arm(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not an empty folder"):
        export(path, out, format="hdf5")
    assert [p.name for p in out.iterdir()] == ["mine.txt"]
    (out / "mine.txt").unlink()
    export(path, out, format="hdf5")


def test_an_export_is_not_written_into_its_own_recordings(tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in")
    with pytest.raises(ConfigError, match="would be read as a part of it"):
        export(path, path / "out", format="hdf5")


def with_spec(**changes: object) -> Spec:
    return replace(ARM, **changes)  # pyright: ignore[reportArgumentType]


def test_lerobot_needs_a_rate(tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in", spec=with_spec(rate_hz=None))
    with pytest.raises(DataError, match=r"run_left_000\.h5: does not say how many frames a second.*--fps 10"):
        export(path, tmp_path / "out", format="lerobot")
    export(path, tmp_path / "hdf5", format="hdf5")
    export(path, tmp_path / "out", format="lerobot", rate_hz=8.0)
    spec = scan_of(tmp_path / "out", tmp_path / "c").spec
    assert spec is not None
    assert spec.rate_hz == 8.0


def test_lerobot_has_one_rate(tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in", lengths=(4,))
    write_arm(tmp_path / "other", lengths=(5, 4), spec=with_spec(rate_hz=25.0))
    (tmp_path / "other/run_left_001.h5").rename(path / "run_left_001.h5")
    with pytest.raises(DataError, match=r"12\.5 to 25 frames a second.*--fps"):
        export(path, tmp_path / "out", format="lerobot")
    export(path, tmp_path / "out", format="lerobot", rate_hz=20)


def test_lerobot_has_one_size_a_camera_and_hdf5_any(tmp_path: Path) -> None:
    small = (Camera(name="front", rows=4, columns=8), ARM.cameras[1])
    path = write_arm(tmp_path / "in", lengths=(4,))
    write_arm(tmp_path / "other", lengths=(5, 4), spec=with_spec(cameras=small))
    (tmp_path / "other/run_left_001.h5").rename(path / "run_left_001.h5")
    with pytest.raises(DataError, match=r"run_left_001.*'front' has 8x4 px, and 8x6 in .*run_left_000.*hdf5"):
        export(path, tmp_path / "out", format="lerobot")
    assert "several sizes, of the cameras front" in str(export(path, tmp_path / "out", format="hdf5"))


def test_videos_have_even_sizes(tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in")
    with pytest.raises(DataError, match=r"'wrist-left' has 3x5 px; a video needs even numbers. Leave out --video"):
        export(path, tmp_path / "out", format="lerobot", is_video=True)


def test_two_recordings_do_not_become_one_file(tmp_path: Path) -> None:
    path = write_v30(tmp_path / "in", images=True)
    export(path, tmp_path / "out", format="hdf5")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"episode_{i:06d}.h5" for i in range(3)]


@pytest.mark.parametrize("option", ["dataset.actions=[drive]", "dataset.cameras=[front]", "model.state=all"])
def test_an_option_without_effect_is_refused(option: str, tmp_path: Path) -> None:
    path = write_arm(tmp_path / "in")
    with pytest.raises(SystemExit, match="has no effect, as all recorded signals and cameras are exported"):
        main(["export-data", str(path), option, "--out", str(tmp_path / "out"), "--format", "hdf5"])


def test_the_command_exports_and_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write_arm(tmp_path / "in", spec=with_spec(cameras=EVEN)), tmp_path / "out"
    cache = f"dataset.cache_dir={tmp_path / 'cache'}"
    with pytest.raises(SystemExit) as end:  # an override may come after the options
        main(["export-data", str(path), "--out", str(out), "--format", "lerobot", "--video", "--fps", "10", cache])
    said = capsys.readouterr().out
    assert end.value.code == 0
    for text in (
        "3 episodes, 16 frames",
        "front 64x64; as H.264 video, which is lossy",
        "rate: 10 frames",
        f"inspect {out}",
    ):
        assert text in said
    assert (out / "videos/observation.images.front/chunk-000/file-000.mp4").is_file()


@pytest.mark.parametrize(
    ("format", "is_video", "sizes"),
    [("hdf5", False, (40, 1440)), ("lerobot", False, (40, 1440)), ("lerobot", True, (200, 390))],
)
def test_a_full_disk_is_named_and_nothing_is_left_on_it(
    format: str, is_video: bool, sizes: tuple[int, ...], tmp_path: Path
) -> None:
    spec = with_spec(cameras=EVEN)
    path = write_arm(tmp_path / "in", spec=spec, lengths=(60, 60))
    dataset = dataset_of(path, tmp_path / "cache")
    for kib in sizes:  # the export of HDF5 has 1,466 KiB, that of videos 393
        with tiny_disk(tmp_path / f"disk{kib}", kib=kib) as disk:
            out = disk / "out"
            with pytest.raises(UserError, match=r"out: the exported data cannot be written: the disk is full") as error:
                export_data(dataset, out, format=format, is_video=is_video)  # pyright: ignore[reportArgumentType]
            assert not isinstance(error.value, DataError)
            assert list(disk.iterdir()) == []


def test_recordings_that_change_meanwhile_are_not_exported(tmp_path: Path) -> None:
    path, out = write_arm(tmp_path / "in", lengths=(3, 1500), spec=with_spec(cameras=EVEN)), tmp_path / "out"

    other = write_arm(tmp_path / "other", lengths=(3,), spec=with_spec(cameras=EVEN), tasks=("Other",))

    def change() -> None:
        while not list(tmp_path.glob(".out-*/new/run_left_000.h5")):
            time.sleep(0.01)
        (other / "run_left_000.h5").replace(path / "run_left_000.h5")

    writer = threading.Thread(target=change)
    writer.start()
    with pytest.raises(DataError, match=r"run_left_000\.h5: was written while it was read"):
        export(path, out, format="hdf5")
    writer.join()
    assert_nothing_left(out)
