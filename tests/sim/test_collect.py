"""Laws of the generated files: same seed same bytes, real names, no action sequence twice, text and name agree."""

import collections
import hashlib
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from mobile_vla.errors import ConfigError
from mobile_vla.sim.collect import SimEpisodes, record
from mobile_vla.sim.expert import succeeds
from mobile_vla.sim.scenarios import spread_scenarios
from mobile_vla.sim.scripted import ScriptedEpisodes, record_scripted

GRAMMAR = re.compile(
    r"episode_\d{8}_\d{6}_(1box|2box)_(vert|hori)_(?P<side>left|right)_(core|variant)_(close|medium|far)\.h5"
)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SimEpisodes(num_episodes=6, named_by=["side"], seed=5, image_size=16, num_workers=1)
    return settings.ensure(tmp_path_factory.mktemp("sim"))


def test_bytes_depend_on_the_seed_and_not_on_the_number_of_workers(folder: Path, tmp_path: Path) -> None:
    again = SimEpisodes(num_episodes=6, named_by=["side"], seed=5, image_size=16, num_workers=2).ensure(tmp_path)
    assert again.name == folder.name
    assert digests(again) == digests(folder)
    other = SimEpisodes(num_episodes=6, named_by=["side"], seed=6, image_size=16, num_workers=1).ensure(tmp_path)
    assert other.name != folder.name
    assert not set(digests(other).values()) & set(digests(folder).values())


def test_a_generated_folder_is_used_again(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    settings = SimEpisodes(num_episodes=6, named_by=["side"], seed=5, image_size=16, num_workers=1)
    assert settings.ensure(folder.parent) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_files_hold_what_their_names_say(folder: Path) -> None:
    paths = sorted(folder.iterdir())
    assert len(paths) == 6
    for path in paths:
        match = GRAMMAR.fullmatch(path.name)
        assert match, path.name
        with h5py.File(path) as file:
            text = file["language_instruction"][0].decode()
            images, actions, events = file["images"], file["actions"][:], file["action_event_types"].asstr()[:]
            assert re.findall(r"\b(left|right)\b", text) == [match["side"]]
            assert images.shape == (len(actions), 16, 16, 3)
            assert images.dtype == np.uint8
            assert events[0] == "episode_start"
            assert file.attrs["frame_rate_hz"] == 10


def test_settings_below_one_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="num_episodes=0, image_size=-1; expected 1 or more"):
        SimEpisodes(num_episodes=0, named_by=["side"], seed=0, image_size=-1, num_workers=1)
    with pytest.raises(ConfigError, match="image_size=0"):
        ScriptedEpisodes(num_left=1, num_right=0, seed=0, image_size=0, num_workers=1)


@pytest.fixture(scope="module")
def recordings():
    return record(num_episodes=250, seed=0)


def test_no_two_episodes_have_the_same_actions_or_name(recordings) -> None:
    assert len({recording.actions.tobytes() for recording in recordings}) == 250
    assert len({recording.name for recording in recordings}) == 250


def test_every_episode_succeeds_in_18_to_60_frames(recordings) -> None:
    for recording in recordings:
        assert 18 <= len(recording.actions) <= 60
        assert not recording.actions[0].any()
        assert succeeds(recording.scene, recording.actions)


def test_scenarios_are_spread_unevenly_and_none_is_rare(recordings) -> None:
    counts = collections.Counter(recording.name.split("_", 3)[3].rsplit("_", 2)[0] for recording in recordings)
    assert len(counts) == 8
    assert min(counts.values()) >= 8
    assert max(counts.values()) >= 2 * min(counts.values())
    sides = collections.Counter(name.rsplit("_", 1)[1] for name in counts.elements())
    assert sides["left"] > sides["right"]
    cells = collections.Counter(recording.scene.scenario.name for recording in recordings)
    assert cells.most_common(1)[0][0] == "1box_hori_left_core_medium"


@pytest.mark.parametrize("num_episodes", [0, 1, 7, 48, 251])
def test_the_spread_holds_exactly_the_episodes_asked_for(num_episodes: int) -> None:
    assert len(spread_scenarios(num_episodes)) == num_episodes


def test_scenes_lean_to_neither_side(recordings) -> None:
    for values in (
        [recording.scene.bottles["left"][1] + recording.scene.bottles["right"][1] for recording in recordings],
        [recording.scene.boxes[0].y for recording in recordings],
        [recording.scene.start[1] for recording in recordings],
    ):
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_the_script_has_the_statistics_of_the_real_collection() -> None:
    actions = np.concatenate([r.actions for r in record_scripted(num_left=250, num_right=250, seed=0)]).astype(float)
    assert actions.mean(axis=0).round(4).tolist() == [1.0222, -0.0319, 0.0]
    assert actions.std(axis=0).round(4).tolist() == [0.3614, 0.8777, 0.0]


def test_one_script_a_side_arrives_without_contact_in_18_frames() -> None:
    recordings = record_scripted(num_left=60, num_right=60, seed=1)
    scripts = {(r.scene.scenario.side, r.actions.tobytes()) for r in recordings}
    assert len(scripts) == 2
    for recording in recordings:
        assert len(recording.actions) == 18
        assert not recording.actions[0].any()
        assert succeeds(recording.scene, recording.actions)


def test_scripted_images_differ_although_actions_do_not(tmp_path: Path) -> None:
    settings = ScriptedEpisodes(num_left=2, num_right=1, seed=0, image_size=16, num_workers=1)
    paths = sorted(settings.ensure(tmp_path).iterdir())
    assert sorted(path.stem.split("_", 3)[3] for path in paths) == [
        "1box_hori_left_core_medium",
        "1box_hori_left_core_medium",
        "1box_hori_right_core_medium",
    ]
    first_frames = set()
    for path in paths:
        with h5py.File(path) as file:
            first_frames.add(file["images"][0].tobytes())
    assert len(first_frames) == 3
