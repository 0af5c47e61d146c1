"""Check that every instruction is shown with its source, and that nothing made up goes unsaid."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_episodes import actions, h5_dataset, images, made_episode, write_h5
from made_lerobot import write_v21
from shared_data import shared
from tiny_runs import every

from mobile_vla.config import compose_config
from mobile_vla.data.labels.instruction_summary import instruction_lines, odd_instructions
from mobile_vla.errors import DataError
from mobile_vla.process.typed_commands import override
from mobile_vla.run.build import build_dataset
from mobile_vla.schema import Episode


def name_of(index: int) -> str:
    return f"episode_20251204_1010{index:02d}_1box_hori_{'left' if index % 2 else 'right'}"


def episodes_of(folder: Path, **extra: object) -> list[Episode]:
    """Write four episodes with ``extra`` keys, or attributes where a name begins with ``at_``, and read them."""
    folder.mkdir()
    keys = {key: value for key, value in extra.items() if not key.startswith("at_")}
    for index in range(4):
        path = write_h5(folder / f"{name_of(index)}.h5", images=images(), actions=actions(), **keys)
        with h5py.File(path, "a") as file:
            for key in extra.keys() - keys.keys():
                file.attrs[key.removeprefix("at_")] = extra[key]
    return list(h5_dataset(folder).scan().episodes)


@pytest.mark.parametrize(
    "written", ["Push", b"Push", np.array([b"Push"], "S256"), ["Push", "Push"], np.array("Push", object)]
)
def test_the_attribute_is_a_source(tmp_path: Path, written: object) -> None:
    episodes = episodes_of(tmp_path / "episodes", at_language_instruction=written)
    assert instruction_lines(episodes) == ['4 x "Push" (attribute)']
    assert odd_instructions(episodes) == []


@pytest.mark.parametrize("written", every(2, [7, ["Push", "Pull"], h5py.Empty("S10"), b"\xff\xfe"]))
def test_an_attribute_that_is_no_one_text_is_refused(tmp_path: Path, written: object) -> None:
    folder = tmp_path / "episodes"
    assert episodes_of(folder, at_language_instruction=written) == []
    with pytest.raises(DataError, match=r"attribute 'language_instruction' (is|cannot be read)"):
        h5_dataset(folder).open()


@pytest.mark.parametrize("place", ["key", "attribute"])
@pytest.mark.parametrize("name", ["instruction", "language_instructions", "Language_Instruction", "task", "lang"])
def test_names_that_may_hold_the_instruction_are_said(tmp_path: Path, name: str, place: str) -> None:
    folder = tmp_path / "episodes"
    episodes = episodes_of(folder, **{name if place == "key" else f"at_{name}": "Push"})
    [warning] = odd_instructions(episodes)
    assert (
        f"4 episode(s), such as that of {folder / name_of(0)}.h5, have the {place} '{name}', which is not read"
        in warning
    )
    assert "is made from dataset.instruction.template" in warning


def test_usual_keys_and_attributes_are_no_instruction(tmp_path: Path) -> None:
    extra = {
        "at_episode_name": "a",
        "at_num_frames": 4,
        "at_hz": 10,
        "timestamps": [1.0],
        "states": [1.0],
        "at_robot": "r",
    }
    assert odd_instructions(episodes_of(tmp_path / "episodes", **extra)) == []


def test_mixed_sources_and_bytes_as_text_are_said() -> None:
    episodes = [made_episode(index, num_frames=3) for index in range(3)]
    episodes[0] = replace(episodes[0], instruction_place="key language_instruction")
    episodes[1] = replace(episodes[1], instruction_source="template", instruction_place="template of the config")
    episodes[2] = replace(episodes[2], instruction="Say: b'go left'")
    mixed, as_text = odd_instructions(episodes)
    assert "1 from the key language_instruction, 1 from the template of the config, 1 from the file" in mixed
    assert re.search(
        r"1 instruction\(s\) hold bytes written as text, .* in episode_002\.h5: .*text\.decode\(\)", as_text
    )


@pytest.mark.parametrize("text", ["Go to Bob's 'red' box", "the b 'box'", "club'go'"])
def test_ordinary_quotes_are_no_bytes(text: str) -> None:
    assert odd_instructions([replace(made_episode(0, num_frames=3), instruction=text)]) == []


def test_many_long_texts_take_few_short_lines() -> None:
    episodes = [replace(made_episode(i, num_frames=3), instruction=f"{i}\n" + "very long " * 50) for i in range(30)]
    lines = instruction_lines([*episodes, episodes[7]])
    assert (len(lines), lines[-1]) == (4, "... and 27 more (file)")
    assert lines[0].startswith('2 x "7 very long very long')
    assert max(map(len, lines)) <= 61  # beside the heading, in 80 columns


def scanned(path: Path, folder: Path, *overrides: str) -> list[Episode]:
    """Return the episodes of recordings in any format, read as `inspect` reads them."""
    return list(build_dataset(compose_config([*_given(path, folder), *overrides])).scan().episodes)


def _given(path: Path, folder: Path) -> list[str]:
    return ["dataset=auto", override("dataset.path", str(path)), f"dataset.cache_dir={folder}"]


@pytest.mark.parametrize(
    ("name", "kind", "place"),
    [
        ("lerobot_v21_video", "task", "task of the episode"),
        ("rosbag2_mcap", "topic", "topic /instruction"),
        ("robomimic", "constant", "constant dataset.instruction.constant"),
    ],
)
def test_the_place_of_an_instruction_is_called_as_its_format_calls_it(
    name: str, kind: str, place: str, tmp_path: Path
) -> None:
    episodes = scanned(shared(f"formats/{name}"), tmp_path)
    assert {episode.instruction_place for episode in episodes} == {place}
    assert all(line.endswith(f"({kind})") for line in instruction_lines(episodes))
    mixed = [*episodes, replace(made_episode(0, num_frames=3), instruction_place="key language_instruction")]
    assert any(f"from the {place}" in warning for warning in odd_instructions(mixed))


def test_recordings_without_an_instruction_are_said_with_the_override_that_gives_one(tmp_path: Path) -> None:
    episodes = scanned(shared("formats/robomimic"), tmp_path)
    [warning] = odd_instructions(episodes)
    assert '4 of 4 episodes have no recorded instruction, and get "Do the task"' in warning
    own = scanned(shared("formats/robomimic"), tmp_path, warning.split(": ", 1)[1])
    assert {episode.instruction for episode in own} == {"Pick up the red cube"}
    assert odd_instructions(own) == []


@pytest.mark.parametrize("place", ["key", "attribute"])
def test_the_option_that_is_shown_reads_the_similar_name(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "episodes"
    [warning] = odd_instructions(episodes_of(folder, **{"lang" if place == "key" else "at_lang": "Push"}))
    option = warning.rsplit("set ", 1)[1]
    again = h5_dataset(folder, option).scan().episodes
    assert {episode.instruction for episode in again} == {"Push"}


@pytest.mark.parametrize("content", ["", None])
def test_empty_tasks_of_a_lerobot_set_are_said(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "set"
    write_v21(folder)
    for name in ("tasks.jsonl", "episodes.jsonl"):
        (folder / "meta" / name).write_text("") if content == "" else (folder / "meta" / name).unlink(missing_ok=True)
    scan = build_dataset(compose_config(_given(folder, tmp_path / "cache"))).scan()
    assert any("no task is recorded: meta/tasks.*" in warning for warning in scan.warnings)
