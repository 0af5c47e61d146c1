"""Check what `inspect` says of a folder that nobody prepared: splits that it states, and what is no scenario."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_episodes import actions, h5_dataset, images, write_h5
from rich.console import Console
from shared_data import shared
from tiny_runs import SMALLEST_MODEL

from mobile_vla.commands import cli
from mobile_vla.data.labels.grammars import matches_selector
from mobile_vla.inspection.contents import Contents, contents_of
from mobile_vla.inspection.terminal import print_choices, print_contents


def write_demos(path: Path, masks: dict[str, list[int]], *, number: int = 8) -> Path:
    """Write a robomimic file of ``number`` demonstrations with ``masks``."""
    with h5py.File(path, "w") as file:
        for index in range(number):
            demo = file.create_group(f"data/demo_{index}")
            demo["actions"], demo["obs/agentview_image"] = actions(seed=index) + 0.01, images(seed=index)
            demo["obs/robot0_eef_pos"] = actions(seed=index)
        for name, listed in masks.items():
            file[f"mask/{name}"] = [f"demo_{index}".encode() for index in listed]
    return path


def contents(folder: Path, *overrides: str) -> Contents:
    scan = h5_dataset(folder, "dataset/layout=auto", "dataset.actions=all", *overrides).scan()
    return contents_of(scan, scan.episodes)


def printed(found: Contents) -> str:
    console = Console(width=80, record=True, markup=False)
    with console.capture() as captured:
        print_contents(found, console)
        print_choices(found.choices, console)
    return captured.get()


MASKS = {"train": [*range(6)], "valid": [6, 7], "20_percent_valid": [7], "20_percent_train": [0]}


def test_a_recorded_split_is_named_with_the_override_that_uses_it_and_is_no_scenario(tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    write_demos(folder / "demo.hdf5", MASKS)

    found = contents(folder)

    [split] = found.splits
    assert split.parts == {"train": 6, "valid": 2, "20_percent_valid": 1, "20_percent_train": 1}
    assert split.override is not None
    assert not any("mask" in override for choice in found.choices for override in choice.overrides)
    said = printed(found)
    assert "recorded as mask: train 6, valid 2" in " ".join(said.split())
    assert f'"{split.override}"' in said
    data = h5_dataset(folder, "dataset/layout=auto", "dataset.actions=all", split.override).open(with_pixels=False)
    assert data.split.unseen == ("demo_6", "demo_7")


def test_one_part_alone_is_no_split(tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    write_demos(folder / "demo.hdf5", {"train": [*range(8)]})
    assert contents(folder).splits == []


@pytest.mark.parametrize(("selector", "is_selected"), [("mask=valid", True), ("mask=a", True), ("mask=val", False)])
def test_a_part_is_selected_whatever_others_list_the_episode(selector: str, is_selected: bool) -> None:
    assert matches_selector(selector, scenario="x", fields={"mask": "a, valid", "room": "a, b"}) == is_selected
    assert not matches_selector("room=a", scenario="x", fields={"mask": "a, valid", "room": "a, b"})


def test_scenarios_of_first_frames_are_those_that_other_ones_are_compared_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names alone give the folders' scenarios: those would count as the present ones, and not be offered."""
    folder = tmp_path / "episodes"
    for room in ("hall", "kitchen"):
        (folder / room).mkdir(parents=True)
        for index in range(4):
            light = np.full((6, 12, 16, 3), 200 if room == "hall" and index else 30, np.uint8)
            write_h5(folder / room / f"run_{room}_{index}.h5", images=light, actions=actions(6, seed=index) + 0.01)
    own = (r"dataset.grammars.own='run_(?P<scenario>hall|kitchen)_\d'", "dataset.scenario=[first_frames:2]")

    with pytest.raises(SystemExit):
        cli.main(["inspect", str(folder), f"dataset.cache_dir={tmp_path}/cache", *own, *SMALLEST_MODEL])

    said = capsys.readouterr().out
    assert re.search(r"scenarios +first_frames_1 5, first_frames_2 3", said)
    assert "dataset.scenario=[field:folder]'\n    2 scenarios: hall 4, kitchen 4" in said


def test_rules_that_give_the_groups_in_use_are_not_offered_by_another_name(tmp_path: Path) -> None:
    for room, goal in (("hall", "plant"), ("kitchen", "fridge")):
        for index in range(4):
            (tmp_path / room).mkdir(exist_ok=True)
            path = write_h5(tmp_path / room / f"run_{room}_{index}.h5", images=images(), actions=actions(seed=index))
            with h5py.File(path, "a") as file:
                file["language_instruction"] = f"go to the {goal}"
                file.attrs["operator"] = "anna" if index % 2 else "ben"
    scan = h5_dataset(tmp_path, "dataset/layout=auto", "dataset.actions=all", "dataset.scenario=[field:folder]").scan()
    found = contents_of(scan, scan.episodes)
    assert [choice.overrides for choice in found.choices] == [(), ("dataset.scenario=[field:operator]",)]


def test_folders_that_a_format_makes_are_no_scenario(tmp_path: Path) -> None:
    for place in ("door/human-v2", "pen/human-v2", ""):
        (tmp_path / place / "data").mkdir(parents=True)
        keys = {}
        for number in range(2):
            keys |= {f"episode_{number}__actions": actions(), f"episode_{number}__observations__view": images(5)}
        write_h5(tmp_path / place / "data" / "main_data.hdf5", **keys)
    scan = h5_dataset(tmp_path, "dataset/layout=auto", "dataset.actions=all").scan()
    assert scan.problems == []
    folders = [episode.fields.get("folder") for episode in scan.episodes]
    assert sorted(map(str, folders)) == ["None"] * 2 + ["door/human-v2"] * 2 + ["pen/human-v2"] * 2


@pytest.mark.parametrize("name", ["robomimic", pytest.param("lerobot_v21_video", marks=pytest.mark.slow)])
def test_no_line_is_wider_than_the_terminal_unless_it_is_one_word(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main(["inspect", str(shared(f"formats/{name}")), f"dataset.cache_dir={tmp_path}", *SMALLEST_MODEL])
    said = capsys.readouterr().out
    lines = [line.removesuffix(" \\") for line in said.splitlines()]
    wide = [line for line in lines if len(line) > 80 and len(line.split()) > 1]
    assert wide == []
    assert "dataset.path=" in said
