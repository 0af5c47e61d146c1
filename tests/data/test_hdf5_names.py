"""Check that HDF5 episodes of the same file name in several folders are told apart, and that no other name changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_episodes import actions, h5_dataset, images, write_h5

from mobile_vla.data.sources.names import own_name


def write_at(folder: Path, *places: str) -> None:
    for seed, place in enumerate(places):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        write_h5(folder / place, images=images(8, seed=seed), actions=actions(8, num_columns=7, seed=seed))


@pytest.mark.parametrize("layout", ["auto", "flat"])
def test_files_of_the_same_name_are_named_with_their_folders_and_no_others(tmp_path: Path, layout: str) -> None:
    write_at(tmp_path, "turn left/0.h5", "turn right/0.h5", "turn right/1.h5", "0.h5", "deep/er/0.h5")
    scan = h5_dataset(
        tmp_path, f"dataset/layout={layout}", "dataset.actions=all", "dataset.scenario=[field:folder]"
    ).scan()
    assert scan.problems == []
    assert {e.name: e.scenario for e in scan.episodes} == {
        "0": "unknown",
        "1": "turn_right",
        "deep_er_0": "deep_er",
        "turn left_0": "turn_left",
        "turn right_0": "turn_right",
    }


def test_a_grammar_reads_the_file_name_whether_or_not_the_folder_is_needed(tmp_path: Path) -> None:
    write_at(tmp_path, "a/run_left_0.h5", "b/run_left_0.h5", "b/run_right_1.h5")
    own = r"dataset.grammars.own='run_(?P<scenario>left|right)_\d'"
    scan = h5_dataset(tmp_path, "dataset.actions=all", own).scan()
    assert {e.name: e.scenario for e in scan.episodes} == {
        "a_run_left_0": "left",
        "b_run_left_0": "left",
        "run_right_1": "right",
    }


@pytest.mark.parametrize(
    ("name", "path", "own"),
    [
        ("0", "a/0.h5", "0"),
        ("a_0", "a/0.h5", "0"),
        ("a_b_0", "a/b/0.h5", "0"),
        ("a_0", "b/a_0.h5", "a_0"),
        ("c_0", "a/0.h5", "c_0"),
        ("a_main_demo_0", "a/main.h5", "a_main_demo_0"),
    ],
)
def test_the_own_name_is_that_of_the_file_where_only_folders_were_added(name: str, path: str, own: str) -> None:
    assert own_name(name, Path(path)) == own
