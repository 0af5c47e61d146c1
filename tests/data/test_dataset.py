"""Check that opening a data set checks all of it, says every oddity, and hashes what results depend on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_episodes import actions, h5_dataset, images, write_h5
from tiny_runs import compose_config

from mobile_vla import config
from mobile_vla.data.dataset import Dataset
from mobile_vla.data.episode_writer import write_episode
from mobile_vla.data.findings.problems import summarise_problems
from mobile_vla.errors import ConfigError, DataError, MissingEpisodesError

SCENARIOS = ("1box_hori_left", "1box_hori_right", "2box_vert_left")
NUM_EPISODES = 15
LEFT_OUT = "angular_z is recorded and changes, but dataset.actions leaves it out"


def name_of(index: int) -> str:
    return f"episode_20251204_1010{index:02d}_{SCENARIOS[index % 3]}_core_medium"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A fresh folder of 15 episodes of three scenarios and 20 to 34 frames."""
    path = tmp_path / "episodes"
    path.mkdir()
    for i in range(NUM_EPISODES):
        write_episode(
            path / f"{name_of(i)}.h5",
            images_FYXC=images(20 + i, size=(16, 16), seed=i),
            actions_FA=actions(20 + i, seed=i),
            instruction=f"Episode {i}",
        )
    return path


@pytest.fixture
def dataset(folder: Path) -> Dataset:
    return h5_dataset(folder)


def test_parts_hold_their_own_episodes_and_read_their_own_frames(dataset: Dataset) -> None:
    data = dataset.open()
    assert len(data.split.train) == 12
    assert len(data.split.val) == 3
    assert set(data.windows) == {"train", "val"}
    assert (data.problems, data.warnings) == ((), (LEFT_OUT,))
    for part, names in (("train", data.split.train), ("val", data.split.val)):
        table = data.windows[part]
        assert table.episode_names == names
        assert len(table) == sum(data.episodes[name].num_frames for name in names)
        for window in (0, len(table) // 2, len(table) - 1):
            batch = data.readers[part].gather(np.array([window]))
            i = int(batch.instruction[0].split()[-1])
            current = table.start[window] + 7
            expected = images(20 + i, size=(16, 16), seed=i)[current]
            np.testing.assert_array_equal(batch.images_BTVCYX[0, -1, 0].permute(1, 2, 0), expected)
            np.testing.assert_array_equal(batch.actions_BTKA[0, -1, 0], actions(20 + i, seed=i)[current, :2])


def test_unseen_scenarios_are_a_part_of_their_own(dataset: Dataset) -> None:
    data = replace(dataset, unseen=["2box_vert_left"]).open()
    assert len(data.split.unseen) == 5
    assert data.windows["unseen"].scenario_names == ("2box_vert_left",)
    for part in ("train", "val"):
        assert "2box_vert_left" not in data.windows[part].scenario_names


def test_fewer_train_episodes_are_another_split_of_the_same_data(dataset: Dataset) -> None:
    whole, part = dataset.open(), replace(dataset, train_episodes=5).open()
    assert len(part.split.train) == 5
    assert part.windows["train"].episode_names == part.split.train
    assert set(part.windows["train"].scenario_names) == set(SCENARIOS)
    assert part.split.val == whole.split.val
    assert set(part.episodes) == {*part.split.train, *part.split.val}
    assert part.data_hash == whole.data_hash
    assert part.split.hash != whole.split.hash
    with pytest.raises(ConfigError, match=r"dataset\.train_episodes=13: the split leaves 12 episodes"):
        replace(dataset, train_episodes=13).open()


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "true"])
def test_a_number_of_train_episodes_that_is_none_is_refused(value: str) -> None:
    cfg = compose_config(["dataset=h5", "dataset.path=x", f"dataset.train_episodes={value}"])
    with pytest.raises(ConfigError, match=r"dataset\.train_episodes: "):
        config.check_config(cfg)


def spoil(folder: Path) -> list[Path]:
    """Make three files of ``folder`` unusable in ways that are found at different depths."""
    paths = [folder / f"{name_of(i)}.h5" for i in (1, 5, 9)]
    paths[0].write_text("version https://git-lfs.github.com/spec/v1\n")
    write_h5(paths[1], images=images(), actions=actions() * np.nan)
    frames = images(4, size=(64, 64))
    write_episode(paths[2], images_FYXC=frames, actions_FA=actions())
    content = bytearray(paths[2].read_bytes())
    content[len(content) // 2] ^= 0xFF
    paths[2].write_bytes(content)
    return paths


def test_all_bad_files_are_one_error_before_a_frame_is_decoded(folder: Path, dataset: Dataset) -> None:
    paths = spoil(folder)
    with pytest.raises(DataError) as refused:
        dataset.open()
    first, *listed, last = str(refused.value).splitlines()
    assert first == "2 episode file(s) cannot be used:"
    assert sorted(line.split(": ")[0].strip() for line in listed) == sorted(map(str, paths[:2]))
    findings = [line.split(": ", 1)[1] for line in listed]
    for finding, expected in zip(findings, ("is a Git LFS pointer", "key 'actions' holds NaN"), strict=True):
        assert finding.startswith(expected)
    assert "dataset.on_bad_episode=skip" in last
    assert not list(Path(dataset.cache_dir).glob("frames-*"))
    for path in paths[:2]:
        path.unlink()
    with pytest.raises(DataError, match=r"1 episode file\(s\) cannot be used:\n.*: key 'images' cannot"):
        dataset.open()


def test_missing_episodes_are_told_apart_from_bad_files() -> None:
    problems = [DataError("a.h5: is empty"), MissingEpisodesError("set: 0..91 are not there", num_episodes=92)]
    text = summarise_problems(problems)
    assert text.startswith("1 episode file(s) cannot be used:\n  a.h5")
    assert "\n92 episode(s) are missing:\n  set: 0..91" in text


def test_skipped_files_are_counted_and_leave_the_rest_as_it_was(folder: Path, dataset: Dataset) -> None:
    paths = spoil(folder)
    data = replace(dataset, on_bad_episode="skip").open()
    assert len(data.problems) == 3
    assert len(data.episodes) == NUM_EPISODES - 3
    assert data.warnings[0].startswith("3 bad episode file(s) skipped: ")
    for path in paths:
        assert str(path) in data.warnings[0]
        assert path.stem not in data.episodes
        path.unlink()
    assert dataset.open().data_hash == data.data_hash
    assert dataset.open().split == data.split


def test_a_folder_without_one_usable_file_says_what_is_wrong_with_each(folder: Path, dataset: Dataset) -> None:
    for path in folder.iterdir():
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"no usable episode is left in (?s:.)*Git LFS pointer"):
        replace(dataset, on_bad_episode="skip").open()


def test_mixed_image_sizes_are_accepted_and_said(folder: Path, dataset: Dataset) -> None:
    path = folder / f"{name_of(2)}.h5"
    write_episode(path, images_FYXC=images(20, size=(48, 64)), actions_FA=actions(20))
    data = dataset.open()
    assert data.warnings[:2] == ("mixed image sizes, all are resized: 14 of 16x16, 1 of 48x64", LEFT_OUT)
    assert data.readers["train"].gather(np.array([0])).images_BTVCYX.shape[-2:] == (16, 16)


def test_a_column_that_never_changes_and_one_left_out_are_said(folder: Path, dataset: Dataset) -> None:
    for path in folder.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file["actions"][:, 1] = 0.5

    chosen = replace(dataset, actions=["linear_x", "linear_y"]).open()
    assert LEFT_OUT in chosen.warnings
    assert any(warning.startswith("linear_y never changes") for warning in chosen.warnings)
    other = replace(dataset, actions=["linear_x", "angular_z"]).open()
    assert not any("angular_z" in warning or "linear_y" in warning for warning in other.warnings)


def test_copies_of_an_episode_are_said(folder: Path, dataset: Dataset) -> None:
    shutil.copy(folder / f"{name_of(1)}.h5", folder / "episode_20251205_101010_1box_hori_left.h5")

    assert "1 episode file(s) are copies of another" in " ".join(dataset.open().warnings)


def test_unknown_scenarios_and_unused_episodes_are_said(folder: Path, dataset: Dataset) -> None:
    (folder / f"{name_of(0)}.h5").rename(folder / "episode_20251204_101000.h5")
    (folder / f"{name_of(3)}.h5").rename(folder / "my_episode.h5")
    data = replace(dataset, padding="none", fwd_pred_next_n=14).open()
    assert sum(e.scenario == "unknown" for e in data.episodes.values()) == 2
    assert "no rule of dataset.scenario gives 2 of 15 episodes a scenario: they count as 'unknown'" in data.warnings
    num_short = {
        part: sum(data.episodes[name].num_frames < 22 for name in names)
        for part, names in (("train", data.split.train), ("val", data.split.val))
    }
    assert sum(num_short.values()) == 2
    for part, count in num_short.items():
        said = f"{count} {part} episode(s) are shorter than a window and are never used"
        assert (said in data.warnings) == (count > 0)


def test_a_window_longer_than_every_episode_names_part_and_remedy(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"^train: no episode has a window: .* needs 48 frames, and the longest of"):
        replace(dataset, padding="none", fwd_pred_next_n=40).open()


def test_data_hash_is_that_of_content_and_targets_and_nothing_else(folder: Path, dataset: Dataset) -> None:
    expected = dataset.open().data_hash
    same = [
        replace(dataset, split_seed=3),
        replace(dataset, val_fraction=0.4),
        replace(dataset, unseen=["1box_hori_left"]),
        replace(dataset, image_size=8, resize="letterbox"),
        replace(dataset, cache_dir=str(folder.parent / "other")),
        replace(dataset, num_workers=2),
    ]
    assert {other.open().data_hash for other in same} == {expected}
    different = [
        replace(dataset, window_size=4),
        replace(dataset, fwd_pred_next_n=4),
        replace(dataset, padding="end"),
        replace(dataset, actions=["linear_x"]),
        replace(dataset, grammars={}),
        replace(dataset, instruction=replace(dataset.instruction, order=["constant"])),
        replace(dataset, task=["instruction"]),
        replace(dataset, task=["actions:2"]),
        replace(dataset, signals={"linear_x": {"unit": "normalised"}}),
        replace(dataset, signals={"linear_x": {"kind": "position"}}),
        replace(dataset, signals={"linear_x": {"rest": 0.5}}),
    ]
    hashes = {other.open().data_hash for other in different}
    folder.rename(folder.parent / "moved")
    moved = replace(dataset, path=str(folder.parent / "moved"))
    assert moved.open().data_hash == expected
    (folder.parent / "moved" / f"{name_of(4)}.h5").unlink()
    assert len({expected, moved.open().data_hash, *hashes}) == 2 + len(different)


def test_training_options_do_not_move_the_split(dataset: Dataset) -> None:
    expected = dataset.open().split
    for other in (
        replace(dataset, padding="none"),
        replace(dataset, window_size=3, fwd_pred_next_n=2),
        replace(dataset, actions=["angular_z"], image_size=8),
    ):
        assert other.open().split == expected
    assert replace(dataset, split_seed=1).open().split != expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "dataset.actions=[linear_x,linear_x]",
            r"dataset\.actions=\['linear_x', 'linear_x'\]: expected each name once",
        ),
        ("dataset.actions=[]", r"dataset\.actions=\[\]: a policy needs at least one"),
        ("dataset.actions=none", r"dataset\.actions=none: a policy needs at least one"),
        ("dataset.cameras=[]", r"dataset\.cameras=\[\]: a policy needs at least one"),
        ("dataset.path=null", r"dataset\.path: exactly one of dataset\.path and dataset\.generator"),
        ("dataset.grammars.boxes='('", r"dataset\.grammars\.boxes: not a regular expression"),
        ("dataset.instruction.template='{'", r"dataset\.instruction\.template: '\{'"),
    ],
)
def test_options_that_cannot_be_are_refused_before_reading(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        h5_dataset(tmp_path / "not_there", override)


@pytest.mark.parametrize("value", ["0", "1", "-0.1", "nan"])
def test_a_val_fraction_outside_of_0_to_1_is_refused(value: str) -> None:
    cfg = compose_config(["dataset=h5", "dataset.path=x", f"dataset.val_fraction={value}"])
    with pytest.raises(ConfigError, match=r"dataset\.val_fraction: .*; Input should be (less|greater) than"):
        config.check_config(cfg)
