"""Check what ``auto`` takes from a convention that a file only looks like, and what it takes from the user."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from made_episodes import actions, h5_dataset, images, write_h5

from mobile_vla.data.dataset import Scan
from mobile_vla.data.findings.problems import summarise_problems
from mobile_vla.data.sources.hdf5.links import camera_names
from mobile_vla.spec import known_signal

AUTO = ("dataset/layout=auto", "dataset.actions=all", "model.state=all")


def scan_of(folder: Path, *overrides: str, **keys: Any) -> Scan:
    """Return the scan of two files with ``keys``, under dataset=auto unless ``overrides`` say another layout."""
    (folder / "episodes").mkdir()
    for number in range(2):
        write_h5(folder / "episodes" / f"run_{number}.h5", **keys)
    return h5_dataset(folder / "episodes", *AUTO, *overrides).scan()


@pytest.mark.parametrize("place", ["images", "observations__images"])
@pytest.mark.parametrize("num_columns", [2, 3])
def test_columns_are_a_base_s_velocities_only_where_the_file_or_the_user_says_so(
    tmp_path: Path, place: str, num_columns: int
) -> None:
    content = {place: images(), "actions": actions(num_columns=num_columns) + 100}
    base = [known_signal(name) for name in ("linear_x", "linear_y", "angular_z")][:num_columns]
    for name, overrides, more, expected in (
        ("unknown", (), {}, [known_signal(f"action_{index}") for index in range(num_columns)]),
        ("collector", (), {"action_event_types": np.array([b"start"] * 4)}, base),
        ("flat", ("dataset/layout=flat",), {}, base),
        ("own", (f"dataset.layout.images.front={place.replace('__', '/')}",), {}, None),
    ):
        (tmp_path / name).mkdir()
        scan = scan_of(tmp_path / name, *overrides, **content, **more)
        assert scan.spec is not None
        found = list(scan.spec.actions)
        assert found == (expected or [known_signal(f"action_{index}") for index in range(num_columns)])
        is_unnamed = any("If they are a base's linear_x, linear_y" in warning for warning in scan.warnings)
        assert is_unnamed == (name in ("unknown", "own"))
    assert known_signal("action_0").unit is None


def test_names_that_the_file_states_need_no_advice(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "a.h5", images=images(), actions=actions(num_columns=2))
    with h5py.File(path, "a") as file:
        file["actions"].attrs["names"] = ["x", "y"]
    scan = h5_dataset(path, *AUTO).scan()
    assert scan.spec is not None
    assert scan.spec.action_names == ("x", "y")
    assert not any("If they are" in warning for warning in scan.warnings)


@pytest.mark.parametrize("place", ["images", "observations__images"])
def test_what_the_user_states_beside_images_and_actions_is_used_too(tmp_path: Path, place: str) -> None:
    scan = scan_of(
        tmp_path,
        "dataset.layout.state=[observations/state]",
        "dataset.layout.instruction=[meta/prompt]",
        "dataset.layout.rate_hz=25",
        "dataset.layout.names.actions=[a,b,c,d]",
        "dataset.layout.signals.b.unit=rad",
        **{place: images(), "actions": actions(num_columns=4), "observations__state": np.ones((4, 2))},
        meta__prompt=b"stack the cubes",
    )
    assert scan.problems == []
    assert scan.spec is not None
    assert scan.spec.state_names == ("state_0", "state_1")
    assert [(s.name, s.unit) for s in scan.spec.actions] == [("a", None), ("b", "rad"), ("c", None), ("d", None)]
    assert scan.spec.rate_hz == 25
    assert {episode.instruction for episode in scan.episodes} == {"stack the cubes"}


@pytest.mark.parametrize(
    "override",
    [
        "dataset.layout.state=[nonsense]",
        "dataset.layout.actions=nonsense",
        "dataset.layout.images.front=nonsense",
        "dataset.layout.episodes=nonsense",
        "dataset.layout.cameras=[nonsense]",
    ],
)
@pytest.mark.parametrize("layout", ["auto", "nested"])
@pytest.mark.parametrize("num_columns", [1, 7])
def test_a_key_that_is_not_there_is_named(tmp_path: Path, override: str, layout: str, num_columns: int) -> None:
    scan = scan_of(
        tmp_path,
        f"dataset/layout={layout}",
        override,
        observations__images=images(),
        actions=actions(num_columns=num_columns),
        observations__state=np.ones((4, 2)),
    )
    assert scan.episodes == []
    assert "'nonsense'" in summarise_problems(scan.problems)


@pytest.mark.parametrize("layout", ["auto", "flat"])
def test_arrays_that_are_not_read_are_named_once_with_what_reads_them(tmp_path: Path, layout: str) -> None:
    content = {
        "images": images(),
        "actions": actions(num_columns=7),
        "observations__state": np.ones((4, 3)),
        "proprio__gripper": np.ones(4),
        "wrist__rgb": images(seed=1),
        "rewards": np.zeros(4),
        "next_observations__state": np.ones((4, 3)),
        "calibration": np.ones((3, 3)),
    }
    scan = scan_of(tmp_path, f"dataset/layout={layout}", **content)
    [note] = [warning for warning in scan.warnings if "not read" in warning]
    assert note.startswith("keys that are not read: observations/state, proprio/gripper, rewards and wrist/rgb (")
    assert note.endswith("): run_0, run_1")
    overrides = [word for word in shlex.split(note.partition(" (")[2]) if word.startswith("dataset.layout.")]
    again = h5_dataset(tmp_path / "episodes", *AUTO, f"dataset/layout={layout}", *overrides).scan()
    assert again.spec is not None
    assert again.spec.state_names == ("state_0", "state_1", "state_2", "gripper")
    assert again.spec.camera_names == ("camera", "rgb")
    [note] = [warning for warning in again.warnings if "not read" in warning]
    assert note == "keys that are not read: rewards: run_0, run_1"


def test_a_state_beside_that_of_the_convention_is_added_to_it(tmp_path: Path) -> None:
    demo = {"obs__front_image": images(), "obs__robot0_pos": np.ones((4, 2)), "obs__force": np.ones((4, 1))}
    content = {f"data__demo_0__{key}": value for key, value in {**demo, "actions": actions()}.items()}
    scan = scan_of(tmp_path, **content, data__demo_0__obs__object=np.ones((4, 1)), data__demo_0__states=np.ones((4, 9)))
    [note] = [warning for warning in scan.warnings if "not read" in warning]
    assert note.startswith("keys that are not read: obs/force, obs/object and states (")
    [override] = [word for word in shlex.split(note) if "dataset.layout.state" in word]
    again = h5_dataset(tmp_path / "episodes", *AUTO, override.removeprefix("(")).scan()
    assert again.spec is not None
    assert again.spec.state_names == ("robot0_pos_0", "robot0_pos_1", "force_0")


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["images"], ["images"]),
        (["sensors/cam_high/rgb", "sensors/cam_wrist/rgb"], ["cam_high", "cam_wrist"]),
        (["rgb", "wrist/rgb"], ["rgb", "wrist"]),
        (["obs/front_image", "obs/wrist_image"], ["front_image", "wrist_image"]),
        (["a/left/rgb", "a/left/ir/rgb", "a/right/rgb"], ["a_left_rgb", "a_left_ir_rgb", "a_right_rgb"]),
    ],
)
def test_cameras_are_named_by_what_differs(keys: list[str], names: list[str]) -> None:
    assert camera_names(keys) == names


def test_own_keys_are_proposed_with_cameras_apart_and_the_instruction(tmp_path: Path) -> None:
    content = {
        "sensors__cam_high__rgb": images(),
        "sensors__cam_wrist__rgb": images(seed=1),
        "cmd__joint_target": actions(num_columns=8),
        "proprio__joint_pos": np.ones((4, 7)),
        "meta__prompt": b"pick up the red cup",
    }
    scan = scan_of(tmp_path, **content)
    text = summarise_problems(scan.problems)
    overrides = [word for word in shlex.split(text) if word.startswith("dataset.layout.")]
    again = h5_dataset(tmp_path / "episodes", *AUTO, *overrides).scan()
    assert again.problems == []
    assert again.spec is not None
    assert again.spec.camera_names == ("cam_high", "cam_wrist")
    assert {episode.instruction for episode in again.episodes} == {"pick up the red cup"}
    without = [word for word in overrides if "instruction" not in word]
    data = h5_dataset(tmp_path / "episodes", *AUTO, *without, "dataset.val_fraction=0.5").open(with_pixels=False)
    assert any("dataset.layout.instruction=[meta/prompt]" in warning for warning in data.warnings)
