"""Check that the signals of most episodes are those of a data set, whatever the order of the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_episodes import actions, h5_dataset, images, law, write_h5

from mobile_vla.data.findings.problems import summarise_problems
from mobile_vla.data.findings.usual_signals import most_frequent, other_signals
from mobile_vla.errors import ConfigError
from mobile_vla.spec import Camera, Signal, Spec

CASES = {
    "actions": {"actions": actions(num_columns=6)},
    "state": {"observations__qpos": np.zeros((4, 2))},
    "cameras": {"observations__images__wrist": images()},
}


def spec_of(num_actions: int, *cameras: str) -> Spec:
    return Spec(
        actions=tuple(Signal(name=f"a{index}") for index in range(num_actions)),
        cameras=tuple(Camera(name=name, rows=2, columns=2) for name in cameras),
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("odd", [0, 2])
def test_the_odd_one_out_is_bad_and_not_the_others(tmp_path: Path, case: str, odd: int) -> None:
    usual = {"actions": actions(num_columns=7), "observations__qpos": np.zeros((4, 3))}
    layout = {"images": images()} if case != "cameras" else {"observations__images__front": images()}
    for number in range(3):
        content = {**usual, **layout, **(CASES[case] if number == odd else {})}
        if case == "cameras":
            content["action"] = content.pop("actions")
        write_h5(tmp_path / f"ep_{number}.h5", **content)
    own = ["dataset.layout.state=observations/qpos"] if case == "state" else []
    scan = h5_dataset(tmp_path, "dataset/layout=auto", "dataset.actions=all", "model.state=all", *own).scan()
    assert sorted(episode.name for episode in scan.episodes) == [f"ep_{n}" for n in range(3) if n != odd]
    [problem] = scan.problems
    assert str(problem).startswith(f"{tmp_path}/ep_{odd}.h5: ")
    assert f"the {case} " in str(problem)
    assert "2 of 3 episodes have" in str(problem)


def test_what_is_wrong_with_all_episodes_of_one_file_is_said_once(tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    folder.mkdir()
    for file, numbers, num_columns in (("few.hdf5", (0, 1), 6), ("many.hdf5", (0, 1, 2), 7)):
        demos = {
            f"data__demo_{number}__{key}": value
            for number in numbers
            for key, value in (("obs__front_image", images()), ("actions", actions(num_columns=num_columns)))
        }
        write_h5(folder / file, **demos)
    dataset = h5_dataset(folder, "dataset/layout=robomimic", "dataset.actions=all", "dataset.on_bad_episode=skip")
    scan = dataset.scan()
    text = summarise_problems(scan.problems)
    assert len(scan.problems) == 2
    assert text.count("few.hdf5") == 1
    assert "(2 episodes of this file)" in text
    warnings = dataset.open(scan, with_pixels=False).warnings
    assert any(warning.endswith(f"skipped: {folder}/few.hdf5 (2 times)") for warning in warnings)


@law
@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from([("a",), ("a", "b")])), min_size=1, max_size=12))
def test_the_reference_is_the_first_of_the_most_frequent(kinds: list[tuple[int, tuple[str, ...]]]) -> None:
    specs = [spec_of(number, *cameras) for number, cameras in kinds]
    usual, count = most_frequent(specs)
    assert count == max(map(kinds.count, kinds))
    first = next(index for index, kind in enumerate(kinds) if kinds.count(kind) == count)
    assert usual is specs[first]
    bad = [other_signals(Path("x"), spec, usual, whose="others have") for spec in specs]
    assert bad.count(None) == count


def test_actions_that_are_recorded_nowhere_come_with_the_remedy(tmp_path: Path) -> None:
    write_h5(tmp_path / "a.h5", images=images(), actions=actions(num_columns=7))
    with pytest.raises(ConfigError, match=r"linear_x, linear_y is recorded nowhere; .* dataset\.actions=all \(the d"):
        h5_dataset(tmp_path).scan()
    assert len(h5_dataset(tmp_path, "dataset.actions=all").scan().episodes) == 1
