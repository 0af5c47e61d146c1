"""Real recordings, and small ones of every format: inspected, trained, compared, served and exported as they lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from shared_data import shared
from tiny_runs import SMALLEST_MODEL, run_in, slow_but, strict_json

from mobile_vla.commands import cli
from mobile_vla.policy.policy import Policy
from mobile_vla.serving.client import PolicyClient
from mobile_vla.serving.server import PolicyServer
from mobile_vla.spec import parse_spec

FORMATS = {
    "formats/lerobot_v21_video": "LeRobot",
    "formats/lerobot_v30_image": "LeRobot",
    "formats/lerobot_v30_video": "LeRobot",
    "formats/robomimic": "HDF5",
    "formats/aloha": "HDF5",
    "formats/minari": "HDF5",
    "formats/rosbag2_mcap": "ROS bag",
    "formats/rosbag2_sqlite3": "ROS bag",
    "formats/mcap_ros2": "ROS bag",
    "donkeycar_test_tub": "DonkeyCar tub",
}
"""The shared recordings, and what they are recognised as."""

FEW = {"formats/rosbag2_mcap": 2, "formats/rosbag2_sqlite3": 2, "formats/mcap_ros2": 1}
"""Numbers of episodes of those that have fewer than a split by default needs."""

TWO_STEPS = (
    "trainer.steps=2",
    "trainer.eval_every=2",
    "trainer.batch_size=4",
    "trainer.device=cpu",
    "evaluation.probe_windows=8",
    "evaluation.shortcuts=false",
    "logger=local",
)


def of(name: str, folder: Path) -> tuple[str, ...]:
    """Return the overrides that read the recordings ``name`` with a cache in ``folder``."""
    path = shared(name)
    if FEW.get(name) == 1:  # a single drive cannot be split: a copy of it stands for a second one
        for number in range(2):
            copied = folder / "twice" / f"drive_{number}.mcap"
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path / "drive_0.mcap", copied)
        path = folder / "twice"
    split = ("dataset.val_fraction=0.5",) if name in FEW else ()
    return ("dataset=auto", f"dataset.path={path}", f"dataset.cache_dir={folder / 'cache'}", *split)


def call(*arguments: object) -> None:
    """Run a command that must end well."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
    assert end.value.code == 0


# Quick: one whose layout is named and one whose frames are messages; all are trained on below, which reads them too.
@pytest.mark.parametrize("name", slow_but(FORMATS, ("formats/minari", "formats/rosbag2_sqlite3")))
def test_recordings_of_every_format_are_inspected(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("inspect", *of(name, tmp_path))

    said = capsys.readouterr().out
    assert FORMATS[name] in said
    assert "recognised by content" in said
    assert "experiment=my_data" in said


TRAINED = ("formats/lerobot_v21_video", "formats/lerobot_v30_image", "formats/robomimic", "formats/minari")
"""Quick ones: both versions of LeRobot, videos and images, files of several episodes and without names, and below bags
and a tub."""


@pytest.mark.parametrize("name", slow_but(FORMATS, (*TRAINED, "formats/mcap_ros2", "donkeycar_test_tub")))
def test_recordings_of_every_format_are_trained_on(name: str, tmp_path: Path) -> None:
    has_state = name not in ("formats/minari", "donkeycar_test_tub", *FEW)
    state = ("model.state=all",) if has_state else ()

    ran = run_in(tmp_path / "run", *of(name, tmp_path), *SMALLEST_MODEL, *TWO_STEPS, *state)

    assert ran.exit_code == 0, ran.message
    spec = parse_spec(strict_json((ran.folder / "spec.json").read_text()))
    assert bool(spec.state) == has_state
    metric = "val/rmse" if spec.common_unit else "val/nrmse"
    assert np.isfinite(ran.summary[metric])
    policy = Policy.load(ran.folder)
    images = {camera.name: np.zeros((camera.rows, camera.columns, 3), np.uint8) for camera in spec.cameras}
    values = {"state": np.zeros(len(spec.state), np.float32)} if spec.state else {}
    image = images if len(images) > 1 else next(iter(images.values()))
    assert policy.act(image, "go", **values).shape == (10, len(spec.actions))


@pytest.mark.slow
def test_a_humanoid_is_trained_compared_served_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "unitree_g1_lerobot_v21"
    data = (*of(name, tmp_path), "dataset.on_bad_episode=skip", "dataset.image_size=64")
    runs = {
        (sampler, state): run_in(
            tmp_path / "runs" / f"{sampler}-{state}",
            *data,
            *TWO_STEPS,
            f"sampler={sampler}",
            f"model.state={state}",
        )
        for sampler in ("shuffled", "action_balanced")
        for state in ("none", "all")
    }
    for ran in runs.values():
        assert ran.exit_code == 0, ran.message
        assert "val/nrmse" in ran.summary
        assert len([key for key in ran.summary if key.startswith("val/rmse/kLeft")]) == 13

    call("compare", tmp_path / "runs", "--baseline", "shuffled, model.state=all")
    comparison = json.loads((tmp_path / "runs" / "comparison.json").read_text())
    assert "val/nrmse" in json.dumps(comparison)

    ran = runs["shuffled", "all"]
    spec = parse_spec(strict_json((ran.folder / "spec.json").read_text()))
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    state = np.arange(26, dtype=np.float32) / 26
    expected = Policy.load(ran.folder).act(image, "pick", state=state)
    named = dict(zip(spec.state_names, state.tolist(), strict=True))
    served = PolicyServer(Policy.load(ran.folder), host="127.0.0.1", port=0)
    with served as server, PolicyClient(server.url) as robot:
        np.testing.assert_allclose(robot.act(image, "pick", state=named), expected, atol=1e-5)

    call("export", ran.folder, tmp_path / "out")
    np.testing.assert_allclose(Policy.load(tmp_path / "out").act(image, "pick", state=state), expected, atol=1e-6)
    assert "kLeftElbow" in (tmp_path / "out" / "README.md").read_text()
