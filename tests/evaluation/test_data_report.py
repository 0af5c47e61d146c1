"""Check that a data set's report counts what is there and says what it cannot show."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from made_episodes import actions, h5_dataset, made_episode, made_spec
from made_scales import signals_spec
from rich.console import Console

from mobile_vla.data.dataset import OpenDataset
from mobile_vla.data.episode_writer import write_episode
from mobile_vla.evaluation.action_shares import action_shares, binary_shares, moving_shares
from mobile_vla.evaluation.data_report import (
    DataReport,
    data_report_of,
    identical_share,
    print_data_report,
    print_warnings,
)
from mobile_vla.schema import Episode
from mobile_vla.spec import Signal, known_signal

SCRIPTS = {side: actions(18, seed=seed) for side, seed in (("left", 1), ("right", 2))}


def open_written(folder: Path, written: dict[str, np.ndarray], *overrides: str) -> OpenDataset:
    """Write an episode of black frames for each name and action array, and open them."""
    folder.mkdir()
    for name, episode in written.items():
        black = np.zeros((len(episode), 16, 16, 3), np.uint8)
        write_episode(folder / f"{name}.h5", images_FYXC=black, actions_FA=episode, instruction="go")
    return h5_dataset(folder, *overrides).open()


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> DataReport:
    """The report's kind of data: 18 frames, one script a side, one window an episode."""
    names = {
        f"episode_20251204_1010{i:02d}_1box_hori_{side}_core_medium": SCRIPTS[side]
        for i, side in enumerate(["left", "right"] * 8)
    }
    data = open_written(tmp_path_factory.mktemp("scripted") / "episodes", names, "dataset.padding=none")
    return data_report_of(data)


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> DataReport:
    """Episodes of 18 to 33 frames, no two alike."""
    names = {f"episode_20251204_1010{i:02d}_1box_hori_left_core_medium": actions(18 + i, seed=i) for i in range(16)}
    data = open_written(tmp_path_factory.mktemp("varied") / "episodes", names, "dataset.padding=none")
    return data_report_of(data)


def test_scripted_data_is_said_to_have_one_window_each_and_to_be_solved_by_a_lookup(scripted: DataReport) -> None:
    warnings = scripted.warnings()
    assert any(
        w.startswith("every train episode has exactly one window: random starts change nothing") for w in warnings
    )
    [solved] = [w for w in warnings if w.startswith("a (scenario, time step) lookup table already solves this task")]
    assert "RMSE 0.0000" in solved
    assert "100% of the episodes repeat another episode's actions exactly" in warnings
    assert scripted.baselines["baseline/time_lookup/rmse"] > 0.1


def test_varied_data_is_not_accused(varied: DataReport) -> None:
    assert varied.warnings() == []


def test_a_few_episodes_without_any_window_do_not_hide_that_the_others_have_one(tmp_path: Path) -> None:
    names = {f"episode_20251204_1010{i:02d}": actions(18 if i else 10, seed=i) for i in range(10)}
    report = [
        data_report_of(open_written(tmp_path / str(seed), names, "dataset.padding=none", f"dataset.split_seed={seed}"))
        for seed in range(2)
    ]
    assert any(e.windows_per_episode == {0: 1, 1: 7} for e in report)
    for found in report:
        assert any("exactly one window" in warning for warning in found.warnings()) == (
            max(found.windows_per_episode) == 1
        )


def test_counts_and_shares_are_those_of_the_data(varied: DataReport) -> None:
    assert varied.num_episodes == {"train": 13, "val": 3, "unseen": 0}
    assert varied.num_frames == sum(range(18, 34))
    assert sum(n * count for n, count in varied.windows_per_episode.items()) == varied.num_windows["train"]
    assert sum(varied.windows_per_episode.values()) == 13
    assert varied.num_windows["train"] + varied.num_windows["val"] == sum(range(1, 17))
    assert varied.episodes_by_scenario == {"1box_hori_left": 16}
    assert sum(varied.phase_shares) == pytest.approx(1)
    assert varied.phase_shares[0] == varied.phase_shares[9] == 0  # no padding: never the current frame
    assert sum(varied.action_shares.values()) == pytest.approx(1)
    assert varied.identical_share == 0


def with_actions(*rows: list[list[float]]) -> list[Episode]:
    return [made_episode(i, num_frames=len(a), actions=np.array(a, np.float32)) for i, a in enumerate(rows)]


def test_identical_share_counts_every_episode_that_has_a_double() -> None:
    a, b, c = [[1, 0], [0, 1]], [[1, 0], [0, 2]], [[1, 0], [0, 1], [0, 0]]
    assert identical_share(with_actions(a, b, c)) == 0
    assert identical_share(with_actions(a, b, a, c)) == 0.5
    assert identical_share(with_actions(a, a, a, a)) == 1


def test_action_classes_are_signs_and_a_resting_stick_stands_still() -> None:
    episodes = with_actions(
        [[1.15, 0, 0.01], [1.15, 1.15, 0], [1.15, 0, -1], [0.05, -0.02, 0.04]], [[-1, 0, 1], [1.15, 0, 0]]
    )
    shares = action_shares(episodes, made_spec())
    expected = {
        "forward": 2,
        "forward + left": 1,
        "forward + turn right": 1,
        "stop": 1,
        "back + turn left": 1,
    }
    assert shares == {name: count / 6 for name, count in expected.items()}
    assert next(iter(shares)) == "forward"
    sideways = [replace(e, actions=e.actions[:, 1:2]) for e in episodes]
    assert action_shares(sideways, made_spec(["linear_y"])) == {
        "stop": 5 / 6,
        "left": 1 / 6,
    }


ARM = (
    Signal(name="shoulder", unit="rad", kind="position"),
    Signal(name="wrist", unit="rad", kind="position", rest=0.5),
    Signal(name="reach", unit="normalised", kind="delta", rest=0.0),
    Signal(name="grip", kind="binary", rest=0.0),
)
ARM_FA = [[0.0, 0.5, 0.0, 0], [0.0, 0.5, 0.9, 1], [0.7, 0.5, 0.9, 1], [1.4, 0.5, 0.9, 1]]


def test_actions_of_an_arm_have_no_classes_and_are_counted_signal_by_signal() -> None:
    spec, episodes = signals_spec(*ARM), with_actions(ARM_FA, ARM_FA)
    assert action_shares(episodes, spec) == {}
    # From episode to episode nothing moves; a constant signal never does, whatever its rest.
    assert moving_shares(episodes, spec) == {"reach": 0.75, "shoulder": 2 / 3, "wrist": 0.0}
    assert binary_shares(episodes, spec) == {"grip": {"0": 0.25, "1": 0.75}}


def test_six_velocities_are_no_base_and_a_base_with_an_arm_has_both_views() -> None:
    joints = [Signal(name=f"joint_{i}", kind="velocity", rest=0.0) for i in range(6)]
    episodes = with_actions([[1.0] * 6, [0.0] * 6])
    assert action_shares(episodes, signals_spec(*joints)) == {}
    assert set(moving_shares(episodes, signals_spec(*joints)).values()) == {0.5}
    both = signals_spec(known_signal("linear_x"), *ARM)
    episodes = with_actions([[1.0, *row] for row in ARM_FA])
    assert action_shares(episodes, both) == {"forward": 1.0}
    assert "linear_x" not in moving_shares(episodes, both)


def test_the_report_of_an_arm_has_no_word_of_driving(varied: DataReport) -> None:
    spec, episodes = signals_spec(*ARM), with_actions(ARM_FA)
    text = printed(
        replace(
            varied,
            action_shares=action_shares(episodes, spec),
            moving_shares=moving_shares(episodes, spec),
            binary_shares=binary_shares(episodes, spec),
        )
    )
    assert "share of train frames: reach 75%, shoulder 67%" in text
    assert "1 of 3: wrist" in text
    assert "grip: 0 in 25%, 1 in 75%" in text
    assert not [word for word in ("forward", "turn left", "stop") if word in text]
    assert "actions that move" not in printed(varied)


def printed(report: DataReport) -> str:
    out = StringIO()
    print_data_report(report, Console(file=out, width=200))
    print_warnings(report.warnings(), Console(file=out, width=300))
    return out.getvalue()


def test_tasks_are_listed_where_there_are_several_and_only_there(tmp_path: Path, scripted: DataReport) -> None:
    tasks = ["red", "blue", "left"] * 6
    names = {
        f"episode_20251204_1010{i:02d}_1box_hori_left_core_medium_redblue_task_{task}": actions(18 + i, seed=i)
        for i, task in enumerate(tasks)
    }
    several = data_report_of(open_written(tmp_path / "several", names))
    assert several.episodes_by_task == {"red": 6, "blue": 6, "left": 6}
    assert several.episodes_by_scenario == {"1box_hori_left": 18}
    assert "red 6, blue 6, left 6" in printed(several)
    one = data_report_of(open_written(tmp_path / "one", {name: a for name, a in names.items() if "task_red" in name}))
    assert one.episodes_by_task == {"red": 6}
    assert scripted.episodes_by_task == {"unknown": 16}
    for report in (one, scripted):
        assert "task" not in printed(report).replace("solves this task", "")


def test_what_is_printed_names_every_figure(scripted: DataReport, varied: DataReport) -> None:
    text = printed(scripted)
    for expected in (
        "16 (train 13, val 3), 288 frames",
        "train 13, val 3",
        "1 in 13 episode(s)",
        "1box_hori_left 8, 1box_hori_right 8",
        "100% of episodes",
        "scenario_time_lookup 0.0000",
        "! every train episode has exactly one window",
        "! a (scenario, time step) lookup table already solves this task",
    ):
        assert expected in text
    text = printed(varied)
    assert "Warnings" not in text
    for part in ("mean", "hold_last", "time_lookup"):
        assert f"{part} {varied.baselines[f'baseline/{part}/rmse']:.4f}" in text
