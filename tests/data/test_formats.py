"""Check that formats are recognised by content, and that several or none are said with what is understood."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_episodes import actions, images, write_h5
from made_lerobot import write_v21
from shared_data import shared

from mobile_vla.config import compose_config
from mobile_vla.data.formats import find_formats
from mobile_vla.errors import ConfigError, DataError
from mobile_vla.run.build import build_dataset


def scan_of(path: Path, folder: Path, *overrides: str) -> object:
    cfg = compose_config(["dataset=auto", f"dataset.path='{path}'", f"dataset.cache_dir={folder}", *overrides])
    return build_dataset(cfg).scan()


def test_a_folder_of_nothing_lists_what_is_understood(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"holds no recordings that are understood\. Understood are: LeRobot data set"):
        scan_of(tmp_path, tmp_path / "cache")


def test_a_folder_of_several_formats_names_each_and_one_can_be_chosen(tmp_path: Path) -> None:
    folder = tmp_path / "all"
    write_v21(folder / "lerobot")
    (folder / "h5").mkdir()
    for number in range(2):
        write_h5(folder / "h5" / f"run_{number}.h5", images=images(5), actions=actions(5, num_columns=3) + 0.01)

    with pytest.raises(DataError, match=r"1 x LeRobot data set .*; 2 x HDF5 file .*dataset\.format=lerobot\|hdf5"):
        scan_of(folder, tmp_path / "cache")
    assert len(scan_of(folder, tmp_path / "cache", "dataset.format=hdf5").episodes) == 2  # pyright: ignore


def test_two_lerobot_sets_are_not_mixed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_v21(tmp_path / "all" / name)
    with pytest.raises(DataError, match=r"holds 2 LeRobot data sets: .*one, .*two\. Give dataset\.path one of them"):
        scan_of(tmp_path / "all", tmp_path / "cache")


def test_the_set_within_a_folder_is_found_and_said(tmp_path: Path) -> None:
    write_v21(tmp_path / "all" / "deep" / "set")
    scan = scan_of(tmp_path / "all", tmp_path / "cache")
    found = scan.format  # pyright: ignore[reportAttributeAccessIssue]
    assert " at deep/set, recognised" in found
    assert str(tmp_path) not in found  # it goes into model cards, which are published


def test_all_shared_formats_are_recognised() -> None:
    found = find_formats(shared("formats"))
    assert {name: len(places) for name, places in found.items()} == {"lerobot": 3, "hdf5": 6, "bag": 5, "tub": 0}


def test_a_channel_order_that_a_bag_states_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.channel_order=bgr: has no effect"):
        scan_of(shared("formats/rosbag2_mcap"), tmp_path, "dataset.channel_order=bgr")
