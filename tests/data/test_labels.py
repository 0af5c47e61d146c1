"""Check the rules of scenarios and tasks: their order, what each reads, and what is said of guesses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_episodes import actions, h5_dataset, images, made_episode, write_h5

from mobile_vla.data.labels.rules import FirstImages, clean_label, label_episodes, parse_rules
from mobile_vla.errors import ConfigError
from mobile_vla.metrics import entry_of
from mobile_vla.schema import Episode


def episodes(number: int = 6) -> list[Episode]:
    """Return episodes whose names no grammar reads, with an attribute ``room`` and an instruction of three."""
    return [
        replace(
            made_episode(index, num_frames=9, scenario="unknown", fields={"room": f"room {index % 2}"}),
            instruction=f"go to {index % 3}",
        )
        for index in range(number)
    ]


def scenarios(rules: list[str], given: list[Episode], first_images: FirstImages | None = None) -> list[str]:
    parsed = parse_rules(rules, option="dataset.scenario")
    found, _ = label_episodes(given, {"scenario": parsed, "task": ()}, first_images=first_images)
    return [episode.scenario for episode in found]


def test_the_first_rule_that_gives_a_text_counts() -> None:
    given = episodes()
    given[0] = replace(given[0], scenario="1box")
    del given[1].fields["room"]  # pyright: ignore[reportIndexIssue]

    assert scenarios(["name", "field:room", "instruction"], given) == [
        "1box",
        "go_to_1",
        *("room_0", "room_1", "room_0", "room_1"),
    ]
    assert scenarios(["instruction", "name"], given)[0] == "go_to_0"
    assert scenarios(["name"], given)[1:] == ["unknown"] * 5


def test_a_constant_instruction_tells_nothing_apart() -> None:
    given = [replace(episode, instruction_source="constant") for episode in episodes()]
    assert scenarios(["instruction"], given) == ["unknown"] * 6


def test_a_task_is_labelled_as_a_scenario_is() -> None:
    rules = parse_rules(["instruction"], option="dataset.task")
    found, _ = label_episodes(episodes(), {"scenario": (), "task": rules}, first_images=None)
    assert [episode.fields["task"] for episode in found] == [f"go_to_{i % 3}" for i in range(6)]
    assert {episode.scenario for episode in found} == {"unknown"}


def test_a_table_names_scenarios_and_what_it_names_in_vain(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("episode,scenario\nepisode_000,kitchen\nepisode_001,hall\nepisode_999,attic\n")
    rules = parse_rules([f"csv:{table}"], option="dataset.scenario")

    found, [warning] = label_episodes(episodes(), {"scenario": rules, "task": ()}, first_images=None)

    assert [episode.scenario for episode in found][:3] == ["kitchen", "hall", "unknown"]
    assert warning == f"{table} names 1 episode(s) that are not there: episode_999"


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "has no row"), ("episode,place\na,b\n", "has episode, place; expected the columns episode and scenario")],
)
def test_a_table_of_another_form_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(ConfigError, match=message):
        scenarios([f"csv:{tmp_path / 'labels.csv'}"], episodes())
    with pytest.raises(ConfigError, match="cannot be read"):
        scenarios([f"csv:{tmp_path / 'nowhere.csv'}"], episodes())


def test_groups_of_actions_are_found_again_and_said_to_be_guesses() -> None:
    rng = np.random.default_rng(0)
    kinds = [index % 3 for index in range(30)]
    given = [
        made_episode(index, num_frames=20, actions=(4 * kind + rng.normal(size=(20, 3))).astype(np.float32))
        for index, kind in enumerate(kinds)
    ]
    rules = parse_rules(["actions:3"], option="dataset.scenario")

    found, [warning] = label_episodes(given, {"scenario": rules, "task": ()}, first_images=None)

    groups = [episode.scenario for episode in found]
    assert len(set(zip(kinds, groups, strict=True))) == len(set(groups)) == 3
    assert "are guesses" in warning
    assert [e.scenario for e in label_episodes(given, {"scenario": rules, "task": ()}, first_images=None)[0]] == groups


def test_groups_of_first_frames_are_those_of_the_rooms() -> None:
    rng = np.random.default_rng(0)
    given = episodes(12)
    first = {
        episode.name: [(90 * (index % 2) + rng.integers(0, 60, (24, 32, 3))).astype(np.uint8)]
        for index, episode in enumerate(given)
    }
    groups = scenarios(["first_frames:2"], given, first)
    assert len({(index % 2, group) for index, group in enumerate(groups)}) == 2
    assert set(groups) == {"first_frames_1", "first_frames_2"}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["folder"], "'folder'; expected name, instruction, field:KEY"),
        (["field"], "'field'; expected"),
        (["name:x"], "'name:x'; expected"),
        (["actions:1"], "expected a number of groups from 2 to 50"),
        (["actions:3", "name"], "'name' has no effect"),
    ],
)
def test_rules_that_cannot_be_are_refused_before_reading(rules: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_rules(rules, option="dataset.scenario")


def test_more_groups_than_episodes_are_refused() -> None:
    with pytest.raises(ConfigError, match="there are only 6 episodes"):
        scenarios(["actions:7"], episodes())


@pytest.mark.parametrize("text", ["a/b c", "  ", "Pick up the cup, please!" * 9, "왼쪽 병으로"])
def test_every_label_is_one_part_of_a_metrics_name(text: str) -> None:
    label = clean_label(text)
    assert label
    assert len(label) <= 60
    assert entry_of(f"val/rmse/scenario_{label}").may_decide
    assert "/" not in label
    assert not any(character.isspace() for character in label)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Pick up the bottle.", "Pick_up_the_bottle"),
        ("  Go on... ", "Go_on"),
        ('"Stop!"', "Stop"),
        ("Where to go?!.", "Where_to_go"),
        (f"{'x' * 59}. More", "x" * 59),
        ("1.5 m to the left", "1.5_m_to_the_left"),
        ("a=b+c-1", "a=b+c-1"),
        (".hidden", ".hidden"),
        ("...", "unknown"),
    ],
)
def test_a_label_has_no_punctuation_at_its_end(text: str, label: str) -> None:
    assert clean_label(text) == label
    assert clean_label(label) == label


def test_folders_and_frames_tell_episodes_of_a_data_set_apart(tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    for room in ("hall", "kitchen"):
        (folder / room).mkdir(parents=True)
        for number in range(4):
            frames = np.full((6, 12, 16, 3), 200 if room == "hall" else 30, np.uint8) + images(6, size=(12, 16)) // 16
            write_h5(folder / room / f"run_{room}_{number}.h5", images=frames, actions=actions(6, seed=number))

    by_folder = h5_dataset(folder, "dataset.scenario=[field:folder]").open()
    assert {e.scenario for e in by_folder.episodes.values()} == {"hall", "kitchen"}
    by_frames = h5_dataset(folder, "dataset.scenario=[first_frames:2]").open(with_pixels=False)
    groups = {(name.split("_")[1], e.scenario) for name, e in by_frames.episodes.items()}
    assert len(groups) == 2
    assert any("are guesses" in warning for warning in by_frames.warnings)
