"""Check that formats are recognised by content, and that several or none are said with what is understood."""

from __future__ import annotations

from collections.abc import Callable
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
from mobile_vla.data.sources import folders
from mobile_vla.data.sources.bags.bag_files import find_bags
from mobile_vla.data.sources.tubs.source import find_tubs
from mobile_vla.errors import ConfigError, DataError
from mobile_vla.run.build import build_dataset


def dataset_at(path: Path, folder: Path, *overrides: str, dataset: str = "auto") -> Dataset:
    cfg = compose_config([f"dataset={dataset}", f"dataset.path='{path}'", f"dataset.cache_dir={folder}", *overrides])
    return build_dataset(cfg)


def scan_of(path: Path, folder: Path, *overrides: str, dataset: str = "auto") -> object:
    return dataset_at(path, folder, *overrides, dataset=dataset).scan()


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


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda folder: write_v21(folder), r"is a LeRobot data set v2\.1"),
        (lambda folder: write_small_tub(folder), "is a DonkeyCar tub"),
        (lambda folder: write_drive(folder), "is a ROS bag"),
    ],
)
@pytest.mark.parametrize("is_below", [False, True])
def test_h5_of_another_format_names_it_and_the_option_that_reads_it(
    tmp_path: Path, make: Callable[[Path], object], named: str, is_below: bool
) -> None:
    place = tmp_path / "all" / "inner" if is_below else tmp_path / "all"
    place.parent.mkdir(parents=True, exist_ok=True)
    make(place)
    with pytest.raises(DataError, match=rf"{named}\. Use dataset=auto"):
        scan_of(tmp_path / "all", tmp_path / "cache", dataset="h5")


FOREIGN = {
    "bag": ("dataset.bag.max_gap_s=2", "dataset.bag.state_topics=[/odom]"),
    "tub": ("dataset.tub.min_frames=3", "dataset.tub.throttle_scale=2.0"),
    "hdf5": ("dataset/layout=robomimic", "dataset.layout.images.front=obs/front"),
}


@pytest.mark.parametrize(
    ("format", "override"),
    [
        (format, option)
        for format in ("lerobot", "hdf5", "bag", "tub")
        for of, options in FOREIGN.items()
        for option in options
        if of != format
    ],
)
def test_options_of_another_format_are_refused(tmp_path: Path, format: str, override: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    if format == "hdf5":
        for number in range(2):
            write_h5(folder / f"run_{number}.h5", images=images(5), actions=actions(5, num_columns=3) + 0.01)
    else:
        {"lerobot": write_v21, "bag": write_drive, "tub": write_small_tub}[format](folder / "one")
    option = override.split("=")[0].removesuffix(".front").replace("+", "")
    names = {"lerobot": "a LeRobot|LeRobot", "hdf5": "HDF5", "bag": "ROS bag", "tub": "DonkeyCar tub"}[format]
    with pytest.raises(ConfigError, match=rf"{option}.*: has no effect, as .* is read as .*({names})"):
        scan_of(folder, tmp_path / "cache", override)


def test_links_may_lead_back_and_a_set_behind_two_links_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "all"
    write_v21(folder / "deep" / "set")
    write_v21(tmp_path / "elsewhere" / "set")
    (folder / "deep" / "back").symlink_to(folder)
    (folder / "again").symlink_to(folder / "deep" / "set")
    (folder / "a_self").symlink_to(folder / "a_self")
    assert find_formats(folder)["lerobot"] == [folder / "deep" / "set"]
    (folder / "other").symlink_to(tmp_path / "elsewhere")
    assert find_formats(folder)["lerobot"] == [folder / "deep" / "set", folder / "other" / "set"]


def test_tubs_and_bags_behind_a_link_are_read_as_they_are_recognised(tmp_path: Path) -> None:
    write_small_tub(tmp_path / "elsewhere" / "tub")
    write_drive(tmp_path / "more" / "bag")
    for name in ("elsewhere", "more"):
        (tmp_path / name / "back").symlink_to(tmp_path / name)
        (tmp_path / f"all_{name}").mkdir()
        (tmp_path / f"all_{name}" / "link").symlink_to(tmp_path / name)
    assert find_tubs(tmp_path / "all_elsewhere")[0] == [tmp_path / "all_elsewhere" / "link" / "tub"]
    assert len(find_bags(tmp_path / "all_more").bags) == 1


def test_too_many_folders_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_MAX_FOLDERS", 5)
    for number in range(8):
        (tmp_path / str(number)).mkdir()
    with pytest.raises(DataError, match=r"holds more than 5 folders, such as .* Give dataset\.path the folder of one"):
        find_formats(tmp_path)


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
    whole = [f"dataset.tub.split_at_{cause}=false" for cause in ("deleted", "session", "index_jump")]
    whole += ["dataset.tub.max_clock_gap_s=1000", "dataset.tub.min_frames=1"]
    data = dataset_at(path, tmp_path / "cache", "dataset.image_size=16", *(whole if kind == "tub" else []))
    assert len(data.scan().episodes) == 1
    with pytest.raises(ConfigError) as refused:
        data.open(with_pixels=False)
    assert str(refused.value).endswith(remedy)
