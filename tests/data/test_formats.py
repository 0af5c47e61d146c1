"""Check that formats are recognised by content, and that several or none are said with what is understood."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_bags import write_drive
from made_episodes import actions, images, write_h5
from made_lerobot import write_v21
from mutated_tubs import write_small_tub
from shared_data import shared

from mobile_vla.config import compose_config
from mobile_vla.data.dataset import Dataset
from mobile_vla.data.formats import find_formats
from mobile_vla.errors import ConfigError, DataError
from mobile_vla.run.build import build_dataset


def dataset_at(path: Path, folder: Path, *overrides: str) -> Dataset:
    cfg = compose_config(["dataset=auto", f"dataset.path='{path}'", f"dataset.cache_dir={folder}", *overrides])
    return build_dataset(cfg)


def scan_of(path: Path, folder: Path, *overrides: str) -> object:
    return dataset_at(path, folder, *overrides).scan()


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
    assert str(tmp_path / "all" / "deep" / "set") in scan.format  # pyright: ignore[reportAttributeAccessIssue]


def test_all_shared_formats_are_recognised() -> None:
    found = find_formats(shared("formats"))
    assert {name: len(places) for name, places in found.items()} == {"lerobot": 3, "hdf5": 6, "bag": 5, "tub": 0}


def test_a_channel_order_that_a_bag_states_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.channel_order=bgr: has no effect"):
        scan_of(shared("formats/rosbag2_mcap"), tmp_path, "dataset.channel_order=bgr")


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("hdf5", "At least two episodes are needed, as one is not split: add episodes."),
        ("bag", "add episodes, or cut it into several (dataset.bag.max_gap_s)."),
        ("tub", "add episodes, or cut it into several (dataset.tub.max_frames)."),
    ],
)
def test_one_episode_is_refused_with_the_option_that_cuts_its_format(tmp_path: Path, kind: str, remedy: str) -> None:
    path = tmp_path / "drive"
    if kind == "hdf5":
        path.mkdir()
        write_h5(path / "a.h5", images=images(), actions=actions())
    elif kind == "bag":
        write_drive(path)
    else:
        write_small_tub(path)
    whole = [
        f"dataset.tub.{option}=false" for option in ("split_at_deleted", "split_at_session", "split_at_index_jump")
    ]
    whole += ["dataset.tub.max_clock_gap_s=1000", "dataset.tub.min_frames=1", "dataset.image_size=16"]
    data = dataset_at(path, tmp_path / "cache", *whole)
    assert len(data.scan().episodes) == 1
    with pytest.raises(ConfigError) as refused:
        data.open(with_pixels=False)
    assert str(refused.value).endswith(remedy)
