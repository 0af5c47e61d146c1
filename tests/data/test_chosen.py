"""Which signals are used: those that a format has for every robot only where the robot uses them."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_bags import KINDS, compressed_image, odometry, picture, text, twist
from tiny_runs import compose_config

from mobile_vla.data.dataset import OpenDataset
from mobile_vla.run.build import build_dataset

pytest.importorskip("rosbags")


def write_bag(path: Path, *, sideways: float, height: float = 0.0) -> None:
    path.parent.mkdir(exist_ok=True)
    messages = [text(-5, "Go left")]
    for i in range(30):
        messages += [
            compressed_image(100 * i, picture(i)),
            twist(100 * i - 5, i / 10, sideways * (i % 2), -i / 20, z=height),
            twist(100 * i - 5, i / 10, topic="/measured"),
            odometry(100 * i - 4, i / 10, 0.1, 0.5),
        ]
    KINDS["mcap"](path, messages)


def opened(folder: Path, *overrides: str) -> OpenDataset:
    common = (
        *("dataset=auto", f"dataset.path={folder}", f"dataset.cache_dir={folder.parent / 'cache'}"),
        *("dataset.val_fraction=0.5", "dataset.bag.command_topic=/cmd_vel"),
    )
    cfg = compose_config((*common, *overrides))
    return build_dataset(cfg).open(with_pixels=False)


def notes_of(data: OpenDataset) -> list[str]:
    return [warning for warning in data.warnings if "0 in every frame and not used" in warning]


def test_velocities_that_no_bag_has_are_left_out_and_told(tmp_path: Path) -> None:
    for number in range(2):
        write_bag(tmp_path / "bags" / f"bag_{number}", sideways=0)
    data = opened(tmp_path / "bags")
    assert data.spec.action_names == ("linear_x", "angular_z")
    assert {e.actions.shape[1] for e in data.episodes.values()} == {2}
    [note] = notes_of(data)
    assert note.startswith("linear_y, linear_z, angular_x, angular_y: 0 in every frame")
    assert note.endswith("name them in dataset.actions")


def test_a_velocity_that_one_bag_has_is_used_of_all(tmp_path: Path) -> None:
    write_bag(tmp_path / "bags" / "bag_0", sideways=0)
    write_bag(tmp_path / "bags" / "bag_1", sideways=0.5)
    data = opened(tmp_path / "bags")
    assert data.spec.action_names == ("linear_x", "linear_y", "angular_z")
    assert not data.problems


def test_named_signals_are_used_though_they_are_0(tmp_path: Path) -> None:
    for number in range(2):
        write_bag(tmp_path / "bags" / f"bag_{number}", sideways=0)
    data = opened(tmp_path / "bags", "dataset.actions=[linear_z,linear_x]")
    assert data.spec.action_names == ("linear_z", "linear_x")
    assert notes_of(data) == []


def test_the_state_leaves_them_out_too_but_nothing_that_a_robot_measures(tmp_path: Path) -> None:
    for number in range(2):
        write_bag(tmp_path / "bags" / f"bag_{number}", sideways=0)
    data = opened(tmp_path / "bags", "dataset.bag.state_topics=[/measured,/odom]", "model.state=all")
    odom = ("x", "y", "yaw", "odom_linear_x", "odom_linear_y", "odom_angular_z")
    assert data.spec.state_names == ("measured_linear_x", "measured_angular_z", *odom)
    assert [note.rsplit(" ", 1)[1] for note in notes_of(data)] == ["dataset.actions", "model.state"]
