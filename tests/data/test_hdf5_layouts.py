"""Check that HDF5 files of every shipped layout read as h5py itself reads them, and that a layout is recognised."""

from __future__ import annotations

import io
import json
import pickle
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from made_episodes import actions, h5_dataset, h5_source, images, read_h5
from PIL import Image
from shared_data import shared
from tiny_runs import CONF, options_of, run_in, tiny_overrides

from mobile_vla.config import check_config, compose_config
from mobile_vla.data.findings.problems import summarise_problems
from mobile_vla.data.sources.contract import Recording
from mobile_vla.data.sources.hdf5 import source as source_module
from mobile_vla.data.sources.hdf5.layout import shipped_layout, shipped_layouts
from mobile_vla.data.sources.hdf5.source import Hdf5Source
from mobile_vla.errors import ConfigError, DataError
from mobile_vla.spec import Camera, Signal, Spec

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
        assert found.notes[0] == f"read as dataset/layout={name}, which fits the content"
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
        "model.state=all",
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


# JPEG and PNG rows.


def encoded(image: np.ndarray, *, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def padded(rows: list[bytes], *, width: int | None = None) -> np.ndarray:
    """Return rows of bytes as ALOHA stores them: zeros after the end of each."""
    width = width or max(map(len, rows))
    return np.stack([np.frombuffer(row.ljust(width, b"\0"), np.uint8) for row in rows])


def write_aloha(path: Path, rows: Any, **more: Any) -> Path:
    """Write an episode of 4 frames whose camera holds ``rows``; ``more`` are further data sets by key."""
    with h5py.File(path, "w") as file:
        file["observations/images/front"] = rows
        for key, value in ({"action": actions() + 0.01} | more).items():
            file[key.replace("__", "/")] = value
    return path


ROWS = [encoded(image) for image in images()]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("coding", ["padded", "variable", "text", "compressed"])
def test_encoded_rows_read_as_pillow_reads_them(tmp_path: Path, kind: str, coding: str) -> None:
    rows = [encoded(image, kind=kind) for image in images()]
    path = write_aloha(tmp_path / "a.hdf5", padded(rows))
    with h5py.File(path, "a") as file:
        if coding != "padded":
            del file["observations/images/front"]
        if coding == "variable":
            place = file.create_dataset("observations/images/front", (4,), h5py.vlen_dtype("u1"))
            for index, row in enumerate(rows):
                place[index] = np.frombuffer(row, np.uint8)
        elif coding == "text":
            file["observations/images/front"] = np.array(rows, f"S{max(map(len, rows))}")
        elif coding == "compressed":
            file.create_dataset("observations/images/front", data=padded(rows), chunks=(3, 50), compression="gzip")
    recording = one(path, layout="aloha")
    assert recording.spec.cameras == (Camera(name="front", rows=6, columns=8),)
    expected = np.stack([decoded(np.frombuffer(row, np.uint8)) for row in rows])
    np.testing.assert_array_equal(frames_of(recording, "front", layout="aloha"), expected)


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "never written": (padded([*ROWS[:3], b""]), "row 3 is empty"),
    "cut": (padded([*ROWS[:2], ROWS[2][:-20], ROWS[3]]), "row 2 is not a readable image"),
    "of another size": (padded([*ROWS[:3], encoded(images(size=(6, 9))[0])]), "row 3 has 6x9 pixels, and row 0 6x8"),
    "no image": (padded([*ROWS[:3], b"text" * 30]), "row 3 is not a readable image"),
    "damaged first": (padded([ROWS[0][5:], *ROWS[1:]]), "row 0 is not a readable image"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_told_by_its_number(tmp_path: Path, case: str) -> None:
    rows, message = BAD_ROWS[case]
    path = write_aloha(tmp_path / "a.hdf5", rows)
    with pytest.raises(DataError) as refused:
        frames_of(one(path, layout="aloha"), "front", layout="aloha")
    assert str(refused.value).startswith(f"{path}: key 'observations/images/front' {message}")


def test_a_row_must_have_one_of_the_lengths_that_are_stated_for_its_frame(tmp_path: Path) -> None:
    lengths = np.array([list(map(len, ROWS)), [1, 2, 3, 4]], np.float32)
    path = write_aloha(tmp_path / "a.hdf5", padded(ROWS), compress_len=lengths)
    assert len(frames_of(one(path, layout="aloha"), "front", layout="aloha")) == 4
    lengths[0, 2] -= 1
    path = write_aloha(tmp_path / "b.hdf5", padded(ROWS), compress_len=lengths)
    with pytest.raises(DataError, match=r"row 2 holds \d+ bytes, but the lengths of this frame are \d+, 3: it was not"):
        frames_of(one(path, layout="aloha"), "front", layout="aloha")


@pytest.mark.parametrize("rows", [padded([*ROWS, ROWS[0]]), images(3)])
def test_every_camera_has_one_frame_for_each_action(tmp_path: Path, rows: np.ndarray) -> None:
    path = write_aloha(tmp_path / "a.hdf5", images(), observations__images__rear=rows)
    with pytest.raises(DataError, match=rf"'action' has 4 rows but 'observations/images/rear' has {len(rows)} frames"):
        read_h5(path, layout="aloha")


def test_the_state_has_one_row_for_each_action_and_no_nan(tmp_path: Path) -> None:
    path = write_aloha(tmp_path / "a.hdf5", images(), observations__qpos=np.zeros((3, 2)))
    with pytest.raises(DataError, match="key 'observations/qpos' has 3 rows and the actions 4"):
        read_h5(path, layout="aloha")
    path = write_aloha(tmp_path / "b.hdf5", images(), observations__qpos=np.full((4, 2), np.nan))
    with pytest.raises(DataError, match="key 'observations/qpos' holds NaN or infinity in 4 row"):
        read_h5(path, layout="aloha")


# Names, units, kinds.


def write_flat(path: Path, values: Any = None, **attributes: Any) -> Path:
    """Write a flat episode with ``attributes``; those that begin with ``of_actions_`` are the data set's."""
    with h5py.File(path, "w") as file:
        file["images"], file["actions"] = images(), actions() if values is None else values
        for key, value in attributes.items():
            node = file["actions"] if key.startswith("of_actions_") else file
            node.attrs[key.removeprefix("of_actions_")] = value
    return path


def test_the_attribute_names_names_the_columns(tmp_path: Path) -> None:
    path = write_flat(tmp_path / "a.h5", actions(num_columns=4), of_actions_names=["x", "y/z", "linear_x", "x"])
    assert one(path).spec.action_names == ("x", "y_z", "linear_x", "x_2")
    assert one(path).spec.actions[2].unit == "m/s"
    path = write_flat(tmp_path / "b.h5", actions(num_columns=4), of_actions_names=["x", "y"])
    with pytest.raises(DataError, match="key 'actions' has 4 columns, but its attribute 'names' 2 names"):
        read_h5(path)


def test_a_file_may_state_its_spec(tmp_path: Path) -> None:
    spec = Spec(
        actions=(Signal(name="steer", unit="rad", kind="position"), Signal(name="gas", unit="normalised", rest=0.0)),
        state=(Signal(name="speed", unit="m/s", kind="velocity"),),
        cameras=(Camera(name="front", rows=6, columns=8),),
        rate_hz=12.5,
    )
    path = write_flat(tmp_path / "a.h5", actions(num_columns=2), mobile_vla_spec=json.dumps(spec.to_json()))
    with h5py.File(path, "a") as file:
        file["state"] = np.arange(4.0)[:, None]
    recording = one(path)
    assert recording.spec == spec
    assert "mobile_vla_spec" not in recording.fields
    np.testing.assert_array_equal(recording.state[:, 0], np.arange(4))
    np.testing.assert_array_equal(frames_of(recording, "front"), images())


STATED = {
    "two columns for three": (
        {"actions": [{"name": "a"}, {"name": "b"}], "cameras": []},
        "describes 2 columns of the a",
    ),
    "no spec": ({"names": []}, "is no spec"),
    "a list": ([1], "is no spec"),
    "another size": (
        {"actions": [{"name": n} for n in "abc"], "cameras": [{"name": "front", "rows": 9, "columns": 8}]},
        "describes Camera.name='front', rows=9",
    ),
}


@pytest.mark.parametrize("case", STATED)
def test_a_stated_spec_that_does_not_fit_is_refused(tmp_path: Path, case: str) -> None:
    content, message = STATED[case]
    path = write_flat(tmp_path / "a.h5", mobile_vla_spec=json.dumps(content))
    with pytest.raises(DataError, match=f"attribute 'mobile_vla_spec' {message}"):
        read_h5(path)
    path = write_flat(tmp_path / "b.h5", mobile_vla_spec="{not json")
    with pytest.raises(DataError, match="attribute 'mobile_vla_spec': is not JSON"):
        read_h5(path)


def test_attributes_become_fields_of_limited_number_and_length(tmp_path: Path) -> None:
    table = {"scene": "kitchen", "trial": 3, "scale": 0.5, "bytes": np.bytes_(b"abc"), "ok": True}
    odd = {"long": "x" * 500, "list": [1, 2, 3], "latin": np.bytes_(b"\xff\xfe"), "nothing": h5py.Empty("f4")}
    path = write_flat(tmp_path / "a.h5", **table, **odd)
    assert one(path).fields == {"scene": "kitchen", "trial": "3", "scale": "0.5", "bytes": "abc", "ok": "True"}
    path = write_flat(tmp_path / "b.h5", **{f"key_{index}": index for index in range(200)})
    assert len(one(path).fields) == 50


# Many episodes in a file.


def write_demos(path: Path, *, numbers: tuple[int, ...] = (0, 1), num_columns: int = 7, **of_data: Any) -> Path:
    """Write a robomimic file with the demonstrations ``numbers``; ``of_data`` are attributes of ``data``."""
    with h5py.File(path, "w") as file:
        for number in numbers:
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"] = actions(num_columns=num_columns, seed=number) + 0.01
            demo["obs/agentview_rgb"], demo["obs/depth_depth"] = images(seed=number), np.zeros((4, 6, 8, 1), np.float32)
            demo["next_obs/agentview_rgb"] = images(seed=99)
            demo["obs/robot0_eef_pos"], demo["obs/object"] = np.ones((4, 3)), np.zeros((4, 9))
            demo["obs/robot0_gripper_qpos"] = np.arange(4.0)
        for key, value in of_data.items():
            file["data"].attrs[key] = value
    return path


def env_args(controller: dict[str, Any], *, kind: int = 1) -> str:
    return json.dumps({"type": kind, "env_kwargs": {"controller_configs": controller, "control_freq": 20}})


def test_demonstrations_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = write_demos(tmp_path / "a.hdf5", numbers=(10, 2, 0))
    recordings = [usable(entry) for entry in read_h5(path, layout="robomimic")]
    assert [r.name for r in recordings] == ["demo_0", "demo_2", "demo_10"]
    assert recordings[1].spec.state_names == (*(f"robot0_eef_pos_{i}" for i in range(3)), "robot0_gripper_qpos")
    assert recordings[1].spec.camera_names == ("agentview",)
    np.testing.assert_array_equal(frames_of(recordings[1], "agentview", layout="robomimic"), images(seed=2))


def test_a_bad_demonstration_leaves_the_others(tmp_path: Path) -> None:
    path = write_demos(tmp_path / "a.hdf5", numbers=(0, 1, 2))
    with h5py.File(path, "a") as file:
        file["data/demo_1/actions"][2, 3] = np.nan
        del file["data/demo_2/obs/agentview_rgb"]
    first, second, third = read_h5(path, layout="robomimic")
    assert usable(first).name == "demo_0"
    assert str(second).startswith(
        f"{path}: key 'data/demo_1/actions' holds NaN or infinity in 1 row(s), first in frame 2"
    )
    assert str(third) == (
        f"{path}: 'data/demo_2' has no key 'obs/{{camera}}_image' or 'obs/{{camera}}_rgb', which other episodes have. "
        "Remove the episode."
    )


def test_several_files_of_demonstrations_have_names_of_their_own(tmp_path: Path) -> None:
    for place in ("a/main.hdf5", "b/main.hdf5", "c.hdf5"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        write_demos(tmp_path / place, numbers=(0,))
    source = h5_source(tmp_path, layout="robomimic")
    found = source.find()
    assert found.problems == []
    names = {usable(entry).name for file in found.files for entry in read_with(source, file)}
    assert names == {"a_main_demo_0", "b_main_demo_0", "c_demo_0"}


@pytest.mark.parametrize("text", ["turn on the stove", '"turn on the stove"', list("turn on the stove")])
def test_the_instruction_of_libero_is_in_json(tmp_path: Path, text: object) -> None:
    path = write_demos(tmp_path / "a.hdf5", problem_info=json.dumps({"language_instruction": text}))
    assert {usable(entry).texts.key for entry in read_h5(path, layout="robomimic")} == {"turn on the stove"}


def test_robosuite_actions_are_what_its_controller_makes_of_them(tmp_path: Path) -> None:
    osc = {"type": "OSC_POSE", "control_delta": True}
    path = write_demos(tmp_path / "a.hdf5", env_args=env_args(osc))
    spec = usable(read_h5(path, layout="robomimic")[0]).spec
    assert spec.action_names == ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
    assert {(s.unit, s.kind, s.rest) for s in spec.actions[:6]} == {("normalised", "delta", 0.0)}
    assert spec.rate_hz == 20
    for index, (description, columns, unit) in enumerate(
        [
            (env_args({**osc, "control_delta": False}), 7, "normalised"),
            (env_args({"type": "JOINT_VELOCITY"}), 8, "normalised"),
            (env_args(osc, kind=2), 7, None),
            ("{}", 7, None),
        ]
    ):
        path = write_demos(tmp_path / f"{index}.hdf5", num_columns=columns, env_args=description)
        spec = usable(read_h5(path, layout="robomimic")[0]).spec
        assert spec.action_names == tuple(f"action_{i}" for i in range(columns))
        assert {s.unit for s in spec.actions} == {unit}


def write_minari(path: Path, *, num_observations: int = 5, values: Any = None, box: bool = False) -> Path:
    """Write a Minari file of one episode of 4 actions, with a table of observations or with the images alone."""
    with h5py.File(path, "w") as file:
        file["episode_0/actions"] = actions() if values is None else values
        file["episode_0/observations" if box else "episode_0/observations/view/rgb"] = images(num_observations)
        if not box:
            file["episode_0/observations/speed"] = np.arange(float(num_observations))
    return path


@pytest.mark.parametrize(("box", "camera"), [(False, "view_rgb"), (True, "camera")])
def test_the_observation_after_the_last_action_of_minari_is_left_out(tmp_path: Path, box: bool, camera: str) -> None:
    recording = one(write_minari(tmp_path / "main_data.hdf5", box=box), layout="minari")
    np.testing.assert_array_equal(frames_of(recording, camera, layout="minari"), images(5)[:4])
    assert recording.state.shape == (4, 0 if box else 1)
    [problem] = read_h5(write_minari(tmp_path / "short.hdf5", num_observations=4, box=box), layout="minari")
    assert "expected one action a frame and one frame after the last" in str(problem)


def test_discrete_actions_are_refused_with_a_sentence(tmp_path: Path) -> None:
    path = write_minari(tmp_path / "main_data.hdf5", values=np.arange(4))
    with pytest.raises(DataError, match=r"'episode_0/actions' is \[4\] int64; .*Discrete actions .* have no distance"):
        read_h5(path, layout="minari")


# The layout that fits, and keys of one's own.


def test_a_file_of_two_layouts_asks_which(tmp_path: Path) -> None:
    path = write_demos(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["images"], file["actions"] = images(), actions()
    ways = "dataset/layout=flat or dataset/layout=robomimic"
    with pytest.raises(DataError, match=f"fits the layouts flat and robomimic. Say which of them it has: {ways}"):
        read_h5(path, layout="auto")
    assert one(path).spec.camera_names == ("camera",)


def test_a_file_of_no_layout_lists_what_it_holds(tmp_path: Path) -> None:
    path = write_aloha(tmp_path / "a.hdf5", images())
    with h5py.File(path, "a") as file:
        file.move("observations/images/front", "obs/front")
    with pytest.raises(DataError) as refused:
        read_h5(path, layout="auto")
    said = str(refused.value)
    assert "fits none of the layouts aloha, flat, minari, nested and robomimic; found action [4, 3] float32, " in said
    assert said.endswith(
        "Name the keys that hold them: dataset.layout.images.front=obs/front dataset.layout.actions=action"
    )


@pytest.mark.parametrize("layout", ["flat", "auto", "aloha"])
def test_the_override_that_is_shown_reads_the_file(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    path = write_aloha(folder / "a.hdf5", images(), obs__front=images(seed=3), obs__speed=np.arange(4.0))
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.move("action", "cmd")
    own = ("dataset.layout.images.front=obs/front", "dataset.layout.actions=cmd", "dataset.layout.state=[obs/speed]")
    dataset = h5_dataset(
        folder,
        f"dataset/layout={layout}",
        *own,
        "dataset.layout.names.cmd=[x,y,z]",
        "dataset.layout.signals.y.unit=rad",
    )
    scan = h5_dataset(folder, f"dataset/layout={layout}", "dataset.actions=all").scan()
    assert "dataset.layout.images.front=obs/front dataset.layout.actions=cmd" in str(scan.problems[0])
    recording = usable(read_with(source_of(dataset), source_of(dataset).find().files[0])[0])
    assert recording.spec.camera_names == ("front",)
    assert [(s.name, s.unit) for s in recording.spec.actions] == [("x", None), ("y", "rad"), ("z", None)]
    np.testing.assert_array_equal(recording.state[:, 0], np.arange(4))
    found = np.concatenate(list(source_of(dataset).frames(recording, "front")))
    np.testing.assert_array_equal(found, images(seed=3))


def source_of(dataset: Any) -> Hdf5Source:
    assert dataset.path is not None
    return Hdf5Source(folder=Path(dataset.path), layout=dataset.layout, order=("file",))


def test_two_layouts_of_one_file_are_other_data(tmp_path: Path) -> None:
    """Runs on different keys of the same files must not count as runs on the same data."""
    folder = tmp_path / "episodes"
    folder.mkdir()
    for index in range(4):
        path = write_flat(folder / f"episode_{index}.h5")
        with h5py.File(path, "a") as file:
            file["other"], file["more/images"] = actions(seed=index) + 1, images(seed=index)
    common = ("dataset.val_fraction=0.5", "dataset.fwd_pred_next_n=2")
    hashes = {
        h5_dataset(folder, *common, *own).open().data_hash
        for own in (
            (),
            ("dataset.layout.actions=other", "dataset.layout.names.other=[linear_x,linear_y,angular_z]"),
            ("dataset.layout.images.camera=more/images",),
        )
    }
    assert len(hashes) == 3


def test_run_py_takes_own_keys_without_a_plus(tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    for index in range(4):
        path = write_flat(folder / f"episode_{index}.h5", images_key=1)
        with h5py.File(path, "a") as file:
            file.move("images", "obs/front")
    ran = run_in(
        tmp_path / "run",
        *tiny_overrides(folder, tmp_path / "cache"),
        "dataset.layout.images.front=obs/front",
        "dataset.val_fraction=0.5",
        "trainer.steps=2",
        "trainer.schedule.warmup_steps=1",
    )
    assert ran.exit_code == 0, ran.message
    assert "front" in (ran.folder / "spec.json").read_text()
    with pytest.raises(ConfigError, match=r"Could not override 'dataset.layout.image.front'"):
        compose_config(["dataset.layout.image.front=obs/front"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.layout.extra_observations=2", "dataset.layout.extra_observations: 2; Input should be 0 or 1"),
        ("dataset.layout.images.front=3", "dataset.layout.images: "),
        ("+dataset.layout.image=x", "dataset.layout.image: Layout has no such option"),
        ("dataset.layout.names.actions=3", "dataset.layout.names: "),
    ],
)
def test_a_wrong_layout_is_refused_before_any_file_is_read(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_config(compose_config(["dataset=h5", "dataset.path=/nowhere", override]))
    assert message in str(refused.value)


def test_what_the_recordings_do_not_say_is_given_without_a_plus(tmp_path: Path) -> None:
    (tmp_path / "episodes").mkdir()
    write_flat(tmp_path / "episodes" / "a.h5")
    for own in (
        ["dataset.signals.linear_x.unit=mph", "dataset.signals.linear_x.rest=1"],
        ["dataset.signals={linear_x: {unit: mph, rest: 1}}"],
    ):
        spec = h5_dataset(tmp_path / "episodes", *own).scan().spec
        assert spec is not None
        assert (spec.actions[0].unit, spec.actions[0].rest) == ("mph", 1)


def test_signals_of_a_layout_have_the_fields_of_signals(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"dataset\.layout\.signals\.qpos: .*kind.* Expected some of unit, kind, rest"
    ):
        h5_dataset(tmp_path, "dataset.layout.signals.qpos={kind: joint}")


@pytest.mark.parametrize("layout", options_of("dataset/layout"))
def test_every_layout_composes_is_checked_and_says_what_it_is_for(tmp_path: Path, layout: str) -> None:
    cfg = compose_config(["dataset=h5", f"dataset/layout={layout}", "dataset.path=/nowhere"])
    check_config(cfg)
    assert h5_dataset(tmp_path, f"dataset/layout={layout}").layout == shipped_layout(layout)
    assert shipped_layout(layout).name == layout
    assert (CONF / "dataset" / "layout" / f"{layout}.yaml").read_text().startswith("# ")


def test_auto_is_another_source_when_a_shipped_layout_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is kept under the text of the source, which holds only the layout ``auto`` itself."""
    before, before_flat = h5_source(tmp_path, layout="auto"), h5_source(tmp_path, layout="flat")
    assert repr(h5_source(tmp_path, layout="auto")) == repr(before)
    assert pickle.loads(pickle.dumps(before)) == before
    changed = [replace(layout, lengths="lengths") for layout in shipped_layouts()]
    monkeypatch.setattr(source_module, "shipped_layouts", lambda: changed)
    assert repr(h5_source(tmp_path, layout="auto")) != repr(before)
    assert repr(h5_source(tmp_path, layout="flat")) == repr(before_flat)


def test_a_file_with_images_at_both_usual_keys_is_other_data_for_each_of_them(tmp_path: Path) -> None:
    path = write_flat(tmp_path / "episode_1.h5")
    assert one(path, layout="flat").part == {}, "as before there were layouts"
    with h5py.File(path, "a") as file:
        file["observations/images"] = images(seed=9)
    own = replace(shipped_layout("flat"), images={"camera": "images"})
    source = Hdf5Source(folder=tmp_path, layout=own, order=("file",))
    flat = usable(read_with(source, source.find().files[0])[0])
    nested = one(path, layout="nested")
    assert flat.part != nested.part
    assert flat.part
    assert nested.part
    np.testing.assert_array_equal(np.concatenate(list(source.frames(flat, "camera"))), file_images(path, "images"))
    found = frames_of(nested, "camera", layout="nested")
    np.testing.assert_array_equal(found, file_images(path, "observations/images"))


def file_images(path: Path, key: str) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file[key][()])  # pyright: ignore[reportIndexIssue]


def with_next(folder: Path, number: int = 2, *, front: str = "obs/front") -> Path:
    """Write files of demonstrations of 4 + n frames, with next observations, a state and rewards, in own places."""
    folder.mkdir()
    for index in range(number):
        with h5py.File(folder / f"run_{index}.hdf5", "w") as file:
            for demo in ("traj_0", "traj_1"):
                rows = 4 + index
                group = file.create_group(f"data/{demo}")
                group["cmd"], group["rewards"] = actions(rows) + 0.01, np.zeros(rows, np.float32)
                group[front], group["next_obs/front"] = images(rows), images(rows)
                group["obs/joints"], group["next_obs/joints"] = np.ones((rows, 5), np.float32), np.ones((rows, 5))
    return folder


def test_next_observations_are_never_proposed_and_the_state_is(tmp_path: Path) -> None:
    folder = with_next(tmp_path / "episodes")
    first, same = h5_dataset(folder, "dataset/layout=auto", "dataset.on_bad_episode=error").scan().problems
    said = str(first)
    assert "next_obs/" not in said
    own = shlex.split(said.split("Name the keys that hold them: ")[1])
    assert own == [
        "dataset.layout.episodes='data/traj_*'",
        "dataset.layout.images.front=obs/front",
        "dataset.layout.actions=cmd",
        "dataset.layout.state=obs/joints",
    ]
    scan = h5_dataset(folder, "dataset/layout=auto", "dataset.actions=all", *own).scan()
    assert list(scan.problems) == []
    assert {recording.state.shape[1] for recording in scan.recordings.values()} == {5}
    assert any("keys that are not read: rewards: " in warning for warning in scan.warnings)

    text = summarise_problems([first, same])  # of other numbers of frames, and otherwise the same
    assert text.count("Name the keys") == 1
    assert "2 episode file(s) cannot be used" in text
    assert f"and the same of 1 other file: {folder / 'run_1.hdf5'}" in text


def test_own_keys_that_fail_still_tell_the_layout_that_fits(tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    write_demos(folder / "a.hdf5")
    for layout in ("auto", "robomimic"):
        own = ("dataset.layout.images.front=agentview", "dataset.layout.actions=action")
        [problem] = h5_dataset(folder, f"dataset/layout={layout}", *own).scan().problems
        assert "Without keys of your own in dataset.layout, dataset/layout=robomimic reads it." in str(problem)
        assert "dataset.layout.images.agentview_rgb=obs/agentview_rgb" in str(problem)
        assert "next_obs/" not in str(problem)


def test_own_keys_keep_the_names_of_the_convention(tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    write_aloha(folder / "a.hdf5", images(), action=actions(num_columns=14) + 0.01, observations__qpos=np.ones((4, 14)))
    own = ("dataset.layout.images.top=observations/images/front", "dataset.layout.actions=action")
    for more in ((), ("dataset.layout.names.qpos=[a,b,c,d,e,f,g,h,i,j,k,l,m,n]",)):
        scan = h5_dataset(folder, "dataset/layout=auto", "dataset.actions=all", "model.state=all", *own, *more).scan()
        assert scan.spec is not None
        assert scan.spec.action_names[-1] == "right_gripper"
        assert {signal.kind for signal in (*scan.spec.actions, *scan.spec.state)} == {"position"}
        assert scan.spec.camera_names == ("top",)
        assert scan.spec.state_names[-1] == ("n" if more else "qpos_13")
    named = h5_dataset(folder, "dataset/layout=auto", "dataset.actions=all", *own, "dataset.layout.state=action").scan()
    assert any("keys that are not read: observations/qpos" in warning for warning in named.warnings)
