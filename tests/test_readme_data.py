"""Each row of the README's table of formats is a command that runs."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_episodes import actions, images, write_h5
from shared_data import shared
from tiny_runs import ROOT, SMALLEST_MODEL, run_in, slow_but

SHARED = {
    "LeRobot v2.1, v3.0": "formats/lerobot_v30_video",
    "robomimic, LIBERO, MimicGen": "formats/robomimic/demo_v15.hdf5",
    "ALOHA, ACT": "formats/aloha",
    "Minari": "formats/minari",
    "ROS 1, ROS 2, MCAP": "formats/rosbag2_mcap",
    "DonkeyCar tub": "donkeycar_test_tub",
}
"""The shared recordings of each row; the other rows are written here."""

SMALL = (
    "trainer.steps=2",
    "trainer.eval_every=2",
    "trainer.batch_size=4",
    "trainer.device=cpu",
    "evaluation.probe_windows=8",
    "evaluation.shortcuts=false",
    "dataset.val_fraction=0.5",
    "logger=local",
)


def rows() -> dict[str, str]:
    """Return the command of each row by its format."""
    section = (ROOT / "README.md").read_text().split("## Your data\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| ([^|]+) \| `(python run\.py [^|]+)` \|", section, re.MULTILINE)
    return dict(found)


def written(folder: Path, **keys: str) -> Path:
    """Write two episodes of 12 frames with the given keys of images and actions."""
    folder.mkdir()
    for number in range(4):
        name = f"run_{'left' if number % 2 else 'right'}_{number:03d}.h5"
        content = {keys["images"]: images(12, seed=number), keys["actions"]: actions(12, seed=number, num_columns=3)}
        write_h5(folder / name, **content)
    return folder


def test_every_format_has_its_row() -> None:
    assert set(rows()) == {*SHARED, "flat or nested HDF5", "HDF5 of your own"}


QUICK = ("LeRobot v2.1, v3.0", "ALOHA, ACT", "ROS 1, ROS 2, MCAP", "HDF5 of your own")
"""One of each way to give data: a folder that says all, a layout, bags and keys of one's own."""


@pytest.mark.parametrize("format", slow_but(rows(), QUICK))
def test_the_command_of_each_row_trains(format: str, tmp_path: Path) -> None:
    if format in SHARED:
        path = shared(SHARED[format])
    elif format == "flat or nested HDF5":
        path = written(tmp_path / "flat", images="observations__images", actions="actions")
    else:
        path = written(tmp_path / "own", images="video__front_view", actions="log__commands")
    command = (
        rows()[format].replace("front=KEY", "front=video/front_view").replace("actions=KEY", "actions=log/commands")
    )
    overrides = [
        re.sub(r"^dataset\.path=(DIR|FILE)$", f"dataset.path={path}", part) for part in shlex.split(command)[2:]
    ]

    ran = run_in(tmp_path / "run", *overrides, f"dataset.cache_dir={tmp_path / 'cache'}", *SMALLEST_MODEL, *SMALL)

    assert ran.exit_code == 0, ran.message
    assert np.isfinite(ran.summary["val/loss"])
    shutil.rmtree(tmp_path / "run")
