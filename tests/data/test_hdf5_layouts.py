"""Check that HDF5 files of every shipped layout read as h5py itself reads them, and that a layout is recognised."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from made_episodes import h5_dataset, h5_source, read_h5
from PIL import Image
from shared_data import shared

from mobile_vla.data.sources.contract import Recording
from mobile_vla.data.sources.hdf5.source import Hdf5Source
from mobile_vla.errors import DataError

HDF5_FORMATS = ("robomimic", "aloha", "minari")


def recordings_of(name: str, *, layout: str) -> list[Recording]:
    """Return all recordings of a shared data set, in the order in which its source finds them."""
    source = h5_source(shared(f"formats/{name}"), layout=layout)
    return [usable(entry) for file in source.find().files for entry in read_with(source, file)]


def read_with(source: Hdf5Source, file: Any) -> list[Recording | DataError]:
    reading = source.read(file)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value


def usable(entry: Recording | DataError) -> Recording:
    assert isinstance(entry, Recording), entry
    return entry


def one(path: Path, *, layout: str = "flat") -> Recording:
    """Return the only recording of a file."""
    [entry] = read_h5(path, layout=layout)
    return usable(entry)


def frames_of(recording: Recording, camera: str, *, layout: str = "flat") -> np.ndarray:
    return np.concatenate(list(h5_source(recording.path, layout=layout).frames(recording, camera)))


def decoded(row: Any) -> np.ndarray:
    """Return the image of a row [Y, X, 3]; padding after a JPEG's end is nothing to Pillow."""
    return np.asarray(Image.open(io.BytesIO(np.asarray(row).tobytes())).convert("RGB"))


# A foreign reader agrees.


def test_robomimic_reads_as_h5py_reads_it() -> None:
    recordings = recordings_of("robomimic", layout="robomimic")
    assert [r.name for r in recordings] == ["demo_0", "demo_1", "demo_2", "demo_3"]
    assert [r.fields["mask"] for r in recordings] == ["train", "train", "train", "valid"]
    with h5py.File(recordings[0].path) as file:
        for recording in recordings:
            demo = file["data"][recording.name]
            np.testing.assert_array_equal(recording.actions, demo["actions"][()])
            state = [demo["obs/robot0_base_pos"][()], demo["obs/robot0_base_vel"][()]]
            np.testing.assert_array_equal(recording.state, np.concatenate(state, axis=1))
            assert recording.spec.action_names == ("action_0", "action_1", "action_2")
            assert recording.spec.state_names[::2] == ("robot0_base_pos_0", "robot0_base_vel_0")
            assert recording.spec.camera_names == ("agentview", "robot0_eye_in_hand")
            for camera in recording.spec.camera_names:
                found = frames_of(recording, camera, layout="robomimic")
                np.testing.assert_array_equal(found, demo[f"obs/{camera}_image"][()])


def test_aloha_reads_as_h5py_and_pillow_read_it() -> None:
    recordings = recordings_of("aloha", layout="aloha")
    assert [r.name for r in recordings] == [f"episode_{index}" for index in range(4)]
    assert [r.fields["compress"] for r in recordings] == ["False", "True", "False", "True"]
    for recording in recordings:
        with h5py.File(recording.path) as file:
            joined = np.concatenate([file["action"][()], file["base_action"][()]], axis=1)
            np.testing.assert_array_equal(recording.actions, joined)
            joined = np.concatenate([file["observations/qpos"][()], file["observations/qvel"][()]], axis=1)
            np.testing.assert_array_equal(recording.state, joined)
            assert {s.kind for s in recording.spec.actions[:14]} == {"position"}
            assert recording.spec.action_names[14:] == ("linear_x", "angular_z")
            assert [s.kind for s in recording.spec.state] == ["position"] * 14 + ["velocity"] * 14
            for camera in ("cam_high", "cam_low"):
                stored = file[f"observations/images/{camera}"]
                expected = stored[()] if stored.ndim == 4 else np.stack([decoded(row) for row in stored])
                np.testing.assert_array_equal(frames_of(recording, camera, layout="aloha"), expected)


def test_minari_reads_as_h5py_and_pillow_read_it() -> None:
    recordings = recordings_of("minari", layout="minari")
    assert [r.name for r in recordings] == ["episode_0", "episode_1", "episode_2"]
    with h5py.File(recordings[0].path) as file:
        for recording in recordings:
            episode = file[recording.name]
            num = len(episode["actions"])
            np.testing.assert_array_equal(recording.actions, episode["actions"][()])
            np.testing.assert_array_equal(recording.state, episode["observations/state"][:num])
            expected = np.stack([decoded(row) for row in episode["observations/image"][:num]])
            np.testing.assert_array_equal(frames_of(recording, "image", layout="minari"), expected)


@pytest.mark.parametrize("name", HDF5_FORMATS)
def test_auto_reads_what_the_layout_reads_and_says_which(name: str) -> None:
    for found, expected in zip(recordings_of(name, layout="auto"), recordings_of(name, layout=name), strict=True):
        assert found.notes == (f"read as dataset/layout={name}, which fits the content",)
        assert (found.name, found.part, found.spec) == (expected.name, expected.part, expected.spec)
        np.testing.assert_array_equal(found.actions, expected.actions)


@pytest.mark.parametrize("name", HDF5_FORMATS)
def test_another_layout_is_told_which_fits(name: str) -> None:
    problems = h5_problems(shared(f"formats/{name}"))
    assert problems
    assert all(f"It is laid out as {name}: set dataset/layout={name}." in problem for problem in problems)


@pytest.mark.parametrize("name", HDF5_FORMATS)
def test_a_shared_data_set_opens_with_frames_of_every_camera(tmp_path: Path, name: str) -> None:
    dataset = h5_dataset(
        shared(f"formats/{name}"),
        f"dataset/layout={name}",
        f"dataset.cache_dir={tmp_path}",
        "dataset.actions=all",
        "dataset.state=all",
        "dataset.val_fraction=0.5",
    )
    data = dataset.open()
    assert data.problems == ()
    assert set(data.frames.cameras) == set(data.spec.camera_names)
    again = dataset.open()
    assert again.data_hash == data.data_hash


def h5_problems(folder: Path, *overrides: str) -> list[str]:
    source = h5_source(folder)
    problems = []
    for file in source.find().files:
        try:
            problems += [str(entry) for entry in read_with(source, file) if isinstance(entry, DataError)]
        except DataError as error:
            problems.append(str(error))
    return problems
