"""Check that frames are decoded once, as the policy will see them, and again when anything that matters changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_episodes import NAME, actions, h5_dataset, images, law, open_h5_frames

from mobile_vla.data.digests import digest_files
from mobile_vla.data.episode_writer import write_episode
from mobile_vla.data.frames import FrameStore, ImageOptions, prepare_image
from mobile_vla.errors import ConfigError, DataError

OPTIONS = ImageOptions(size=(6, 8), resize="direct", channel_order="rgb")

OPEN_FRAMES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from made_episodes import open_h5_frames
from mobile_vla.data.frames import ImageOptions

if __name__ == "__main__":
    folder, cache_dir, num_workers = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    options = ImageOptions(size=(6, 8), resize="direct", channel_order="rgb")
    store, _ = open_h5_frames(folder, options=options, cache_dir=cache_dir, num_workers=num_workers)
    print(store.cameras["camera"].sum(), len(store.first_row))
"""


def write_folder(folder: Path, *, num_episodes: int = 3) -> Path:
    folder.mkdir(parents=True)
    for i in range(num_episodes):
        path = folder / f"episode_20251204_10100{i}.h5"
        write_episode(path, images_FYXC=images(3 + i, seed=i), actions_FA=actions(3 + i))
    return folder


def open_folder(
    folder: Path, *, options: ImageOptions = OPTIONS, num_workers: int = 0
) -> tuple[FrameStore, dict[str, DataError]]:
    """Open the frames of ``folder`` with the cache beside it."""
    return open_h5_frames(folder, options=options, cache_dir=folder.parent / "cache", num_workers=num_workers)


def caches(folder: Path) -> list[Path]:
    return sorted(p for p in (folder.parent / "cache").glob("frames-*") if p.is_dir())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_frame_stands_in_its_episodes_rows(tmp_path: Path, num_workers: int) -> None:
    folder = write_folder(tmp_path / "episodes")
    store, problems = open_folder(folder, num_workers=num_workers)
    assert problems == {}
    assert isinstance(store.cameras["camera"], np.memmap)
    assert store.cameras["camera"].shape == (3 + 4 + 5, 6, 8, 3)
    for i in range(3):
        first = store.first_row[f"episode_20251204_10100{i}"]
        np.testing.assert_array_equal(store.cameras["camera"][first : first + 3 + i], images(3 + i, seed=i))


def test_second_opening_reads_the_cache_and_not_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "episodes")
    first, _ = open_folder(folder)
    [cache] = caches(folder)
    written = (cache / "frames.u8").stat().st_mtime_ns
    monkeypatch.setattr("mobile_vla.data.frames.ask_each", pytest.fail)
    monkeypatch.setattr("mobile_vla.data.digests.digest_of", pytest.fail)
    second, _ = open_folder(folder)
    np.testing.assert_array_equal(first.cameras["camera"], second.cameras["camera"])
    assert (cache / "frames.u8").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "other",
    [
        replace(OPTIONS, size=(8, 6)),
        replace(OPTIONS, size=(5, 8)),
        replace(OPTIONS, resize="letterbox"),
        replace(OPTIONS, channel_order="bgr"),
    ],
)
def test_each_image_option_has_a_cache_of_its_own(tmp_path: Path, other: ImageOptions) -> None:
    folder = write_folder(tmp_path / "episodes", num_episodes=1)
    open_folder(folder)
    store, _ = open_folder(folder, options=other)
    assert len(caches(folder)) == 2
    np.testing.assert_array_equal(store.cameras["camera"][0], prepare_image(images(3)[0], other))


def test_changed_content_is_decoded_again(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "episodes", num_episodes=2)
    open_folder(folder)
    new = images(3, seed=9)
    write_episode(folder / "episode_20251204_101000.h5", images_FYXC=new, actions_FA=actions(3))
    store, _ = open_folder(folder)
    assert len(caches(folder)) == 2
    np.testing.assert_array_equal(store.cameras["camera"][:3], new)


def test_the_same_content_elsewhere_uses_the_same_cache(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "episodes")
    open_folder(folder)
    folder.rename(tmp_path / "moved")
    open_folder(tmp_path / "moved")
    assert len(caches(folder)) == 1


def test_processes_that_start_together_decode_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "episodes")
    script = tmp_path / "open_frames.py"
    script.write_text(OPEN_FRAMES)
    tests = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, str(script), tests, str(folder), str(tmp_path / "cache")]
    processes = [subprocess.Popen([*command, n], stdout=subprocess.PIPE, text=True) for n in ("0", "2")]
    answers = {process.communicate(timeout=60)[0] for process in processes}
    assert answers == {f"{sum(int(images(3 + i, seed=i).sum()) for i in range(3))} 3\n"}
    [cache] = caches(folder)
    assert sorted(p.name for p in cache.iterdir()) == ["complete.json", "frames.u8", "problems.json"]


def damage_second_frame(path: Path) -> None:
    """Flip one byte inside the compressed chunk of frame 1."""
    with h5py.File(path) as file:
        chunk = file["images"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(content)


def test_a_damaged_chunk_is_named_by_file_and_key_wherever_the_file_lies(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "episodes", num_episodes=2)
    damage_second_frame(folder / "episode_20251204_101001.h5")
    _, problems = open_folder(folder)
    moved = shutil.move(folder, tmp_path / "moved")
    _, again = open_folder(Path(moved))
    assert len(caches(folder)) == 1
    for place, found in ((folder, problems), (moved, again)):
        assert list(found) == ["episode_20251204_101001"]
        text = str(found["episode_20251204_101001"])
        assert text.startswith(f"{place}/episode_20251204_101001.h5: key 'images' cannot be decoded (")
        assert text.endswith("Copy the file again or remove it.")


def test_chunks_that_never_reached_the_disk_are_not_black_frames(tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    with h5py.File(folder / f"{NAME}.h5", "w") as file:
        file.create_dataset("images", (4, 6, 8, 3), np.uint8, chunks=(1, 6, 8, 3))[:3] = images(3)
        file["actions"] = actions(4)
    [problem] = h5_dataset(folder).scan().problems
    assert "key 'images' has only 3 of 4 chunks: it was not saved to the end" in str(problem)


def test_a_full_disk_is_said_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "episodes")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(2**30, 2**30 - 100, 100))
    with pytest.raises(ConfigError, match=r"dataset\.cache_dir=.*cache: the decoded frames need .* are free"):
        open_folder(folder)


def test_digests_follow_content_and_are_remembered(tmp_path: Path) -> None:
    a, b = tmp_path / "a.h5", tmp_path / "b.h5"
    a.write_bytes(b"one")
    b.write_bytes(b"one")
    first = digest_files([a, b], cache_dir=tmp_path)
    assert first[a] == first[b]
    b.write_bytes(b"other")
    second = digest_files([a, b], cache_dir=tmp_path)
    assert second[a] == first[a] != second[b]
    assert set(json.loads((tmp_path / "file_digests.json").read_text())["files"].values()) == set(second.values())


recorded = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda s: arrays(np.uint8, (*s, 3)))
sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))


@law
@given(recorded, sizes, st.sampled_from(["direct", "letterbox"]))
def test_bgr_files_give_the_rgb_image(image_YXC: np.ndarray, size: tuple[int, int], resize: str) -> None:
    rgb = ImageOptions(size=size, resize=resize, channel_order="rgb")
    from_rgb = prepare_image(image_YXC, rgb)
    from_bgr = prepare_image(image_YXC[..., ::-1], replace(rgb, channel_order="bgr"))
    assert from_rgb.shape == (*size, 3)
    np.testing.assert_array_equal(from_rgb, from_bgr)


@law
@given(recorded)
def test_an_image_of_the_right_size_is_not_touched(image_YXC: np.ndarray) -> None:
    for resize in ("direct", "letterbox"):
        options = ImageOptions(size=image_YXC.shape[:2], resize=resize, channel_order="rgb")
        np.testing.assert_array_equal(prepare_image(image_YXC, options), image_YXC)


@law
@given(height=st.integers(1, 40), width=st.integers(1, 40), size=sizes)
def test_letterbox_keeps_the_aspect_in_the_middle_of_black_and_direct_fills(
    height: int, width: int, size: tuple[int, int]
) -> None:
    white = np.full((height, width, 3), 255, np.uint8)
    options = ImageOptions(size=size, resize="letterbox", channel_order="rgb")
    assert (prepare_image(white, replace(options, resize="direct")) == 255).all()

    boxed = prepare_image(white, options)
    assert set(np.unique(boxed)) <= {0, 255}
    bright = boxed[..., 0] == 255
    rows, columns = bright.any(1), bright.any(0)
    assert bright.sum() == rows.sum() * columns.sum()  # one rectangle
    assert rows.all() or columns.all()
    scale = min(size[0] / height, size[1] / width)
    assert abs(rows.sum() - max(height * scale, 1)) <= 0.5
    assert abs(columns.sum() - max(width * scale, 1)) <= 0.5
    for used in (rows, columns):
        before, after = int(np.argmax(used)), int(np.argmax(used[::-1]))
        assert abs(before - after) <= 1
