"""Check that damaged files of every HDF5 layout give an error with the file's name, and never one of the reader."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_episodes import actions, h5_source, images
from mutated_episodes import SPOILT
from PIL import Image

from mobile_vla.data.episodes import read_file
from mobile_vla.data.frames import ImageOptions, decode_into
from mobile_vla.data.reading.process import ask
from mobile_vla.data.sources.contract import Recording, RecordingFile
from mobile_vla.errors import DataError

OPTIONS = ImageOptions(size=(6, 8), resize="direct", channel_order="rgb")
NUM_FRAMES = 6


def jpegs(num: int) -> list[np.ndarray]:
    found = []
    for image in images(num, size=(16, 16)):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG")
        found.append(np.frombuffer(buffer.getvalue(), np.uint8))
    return found


def write_robomimic(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for index in range(3):
            demo = file.create_group(f"data/demo_{index}")
            demo["actions"] = actions(NUM_FRAMES, seed=index) + 0.1
            demo.create_dataset("obs/front_image", data=images(NUM_FRAMES), chunks=(1, 6, 8, 3), compression="gzip")
            demo["obs/robot0_eef_pos"] = np.ones((NUM_FRAMES, 3))
        file["mask/train"] = np.array([b"demo_0"])
        file["data"].attrs["env_args"] = '{"type": 1, "env_kwargs": {"control_freq": 20}}'


def write_aloha(path: Path) -> None:
    rows = jpegs(NUM_FRAMES)
    with h5py.File(path, "w") as file:
        table = np.zeros((NUM_FRAMES, max(map(len, rows))), np.uint8)
        for index, row in enumerate(rows):
            table[index, : len(row)] = row
        file["observations/images/front"], file["action"] = table, actions(NUM_FRAMES) + 0.1
        file["observations/qpos"], file["compress_len"] = np.ones((NUM_FRAMES, 2)), np.array([list(map(len, rows))])


def write_minari(path: Path) -> None:
    with h5py.File(path, "w", track_order=True) as file:
        for index in range(3):
            episode = file.create_group(f"episode_{index}")
            episode["actions"] = actions(NUM_FRAMES, seed=index) + 0.1
            frames = episode.create_dataset("observations/image", (NUM_FRAMES + 1,), h5py.vlen_dtype("u1"))
            for frame, row in enumerate(jpegs(NUM_FRAMES + 1)):
                frames[frame] = row
            episode["observations/state"] = np.ones((NUM_FRAMES + 1, 3))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "robomimic": write_robomimic,
    "aloha": write_aloha,
    "minari": write_minari,
}


@pytest.mark.parametrize("is_named", [True, False], ids=["named", "auto"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_mutated_files_are_read_or_refused_by_name(tmp_path: Path, layout: str, is_named: bool) -> None:
    good, said = tmp_path / "good.h5", []
    LAYOUTS[layout](good)
    for index in range(16):
        content = bytearray(good.read_bytes())
        list(SPOILT.values())[index % len(SPOILT)](content, np.random.default_rng([index, is_named]))
        path = tmp_path / f"episode_{index}.h5"
        path.write_bytes(content)
        try:
            read_all(path, layout=layout if is_named else "auto", frames=tmp_path / "frames")
        except DataError as error:
            said.append(str(error).removeprefix(f"{path}: "))
    assert len(said) > 3
    assert [text for text in said if text.startswith(str(tmp_path)) or "this is a bug" in text] == []


def read_all(path: Path, *, layout: str, frames: Path) -> None:
    """Read a file in a reading process, pixels included; raises the first error."""
    source = h5_source(path, layout=layout)
    for recording in ask(read_file, path, source, RecordingFile(path=path, files=(path,))):
        if not isinstance(recording, Recording):
            raise recording
        for camera in recording.spec.camera_names:
            frames.write_bytes(bytes(recording.num_frames * 6 * 8 * 3))
            ask(decode_into, path, source, recording, camera, frames, 0, OPTIONS)


def test_what_is_read_beside_images_and_actions_lies_in_the_file_and_was_written(tmp_path: Path) -> None:
    outside = tmp_path / "outside.h5"
    write_robomimic(outside)
    for index, (key, shape, message) in enumerate(
        [
            ("data/demo_0/obs/robot0_eef_pos", (NUM_FRAMES, 3), "has no bytes in the file"),
            ("mask/train", (2,), "has no bytes in the file"),
        ]
    ):
        for is_link in (True, False):
            path = tmp_path / f"{index}_{is_link}.h5"
            write_robomimic(path)
            with h5py.File(path, "a") as file:
                del file[key]
                if is_link:
                    file[key] = h5py.ExternalLink(str(outside), key)
                else:
                    file.create_dataset(key, shape, "S6" if len(shape) == 1 else "f4")
            with pytest.raises(DataError) as refused:
                read_all(path, layout="robomimic", frames=tmp_path / "frames")
            assert str(refused.value).startswith(f"{path}: key '{key}' {'is an external link' if is_link else message}")


def test_two_demonstrations_on_the_same_bytes_are_damage_but_a_hard_link_is_none(tmp_path: Path) -> None:
    path = tmp_path / "linked.h5"
    write_robomimic(path)
    with h5py.File(path, "a") as file:
        del file["data/demo_1/obs/front_image"]
        file["data/demo_1/obs/front_image"] = file["data/demo_0/obs/front_image"]
    read_all(path, layout="robomimic", frames=tmp_path / "frames")
    with h5py.File(path) as file:
        first, second = (file[f"data/demo_{index}/actions"].id.get_offset() for index in (0, 1))
    content = path.read_bytes().replace(second.to_bytes(8, "little"), first.to_bytes(8, "little"))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"'data/demo_0/actions' and key 'data/demo_1/actions' lie on the same bytes"):
        read_all(path, layout="robomimic", frames=tmp_path / "frames")
