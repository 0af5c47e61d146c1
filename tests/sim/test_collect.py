"""Laws of the generated files: same seed same bytes, real names, no action sequence twice, text and name agree."""

import collections
import hashlib
import itertools
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import compose_config, every

from mobile_vla import config
from mobile_vla.errors import ConfigError
from mobile_vla.sim.demonstrations.collect import SimEpisodes, record
from mobile_vla.sim.demonstrations.expert import succeeds
from mobile_vla.sim.demonstrations.scripted import ScriptedEpisodes, record_scripted
from mobile_vla.sim.scenarios import NUM_SCENARIOS, SCENARIO_SHARES, imbalanced, shares_of, spread_scenarios

GRAMMAR = re.compile(
    r"episode_\d{8}_\d{6}_(1box|2box)_(vert|hori)_(?P<side>left|right)_(core|variant)_(close|medium|far)\.h5"
)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.h5"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SimEpisodes(num_episodes=6, named_by=["side"], imbalance=1, seed=5, image_size=16, num_workers=1)
    return settings.ensure(tmp_path_factory.mktemp("sim"))


def test_bytes_depend_on_the_seed_and_not_on_the_number_of_workers(folder: Path, tmp_path: Path) -> None:
    again = SimEpisodes(num_episodes=6, named_by=["side"], imbalance=1, seed=5, image_size=16, num_workers=2).ensure(
        tmp_path
    )
    assert again.name == folder.name
    assert digests(again) == digests(folder)
    other = SimEpisodes(num_episodes=6, named_by=["side"], imbalance=1, seed=6, image_size=16, num_workers=1).ensure(
        tmp_path
    )
    assert other.name != folder.name
    assert not set(digests(other).values()) & set(digests(folder).values())


def test_a_generated_folder_is_used_again(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.h5")}
    settings = SimEpisodes(num_episodes=6, named_by=["side"], imbalance=1, seed=5, image_size=16, num_workers=1)
    assert settings.ensure(folder.parent) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.h5")} == before


def test_files_hold_what_their_names_say(folder: Path) -> None:
    paths = sorted(folder.glob("*.h5"))
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
    said = "the number of episodes is 0, not 1 to 1,000,000; image_size is -1, not 1 to 1,024"
    with pytest.raises(ConfigError, match=said):
        SimEpisodes(num_episodes=0, named_by=["side"], imbalance=1, seed=0, image_size=-1, num_workers=1)
    with pytest.raises(ConfigError, match="image_size is 0"):
        ScriptedEpisodes(num_left=1, num_right=0, seed=0, image_size=0, num_workers=1)


def test_more_episodes_than_a_machine_can_hold_are_refused_before_they_are_made() -> None:
    with pytest.raises(ConfigError, match="the number of episodes is 1000000000, not 1 to 1,000,000"):
        SimEpisodes(num_episodes=10**9, named_by=["side"], imbalance=1, seed=0, image_size=64, num_workers=1)
    with pytest.raises(ConfigError, match="image_size is 100000, not 1 to 1,024"):
        ScriptedEpisodes(num_left=1, num_right=1, seed=0, image_size=10**5, num_workers=1)


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


def counts_by_scenario(num_episodes: int, imbalance: float, *, at_least: int = 0) -> list[int]:
    """Return the episodes of each scenario, the commonest first, and check that there are as many as asked for."""
    spread = spread_scenarios(num_episodes, imbalanced(SCENARIO_SHARES, imbalance), at_least=at_least)
    assert len(spread) == num_episodes
    counts = collections.Counter((cell.num_boxes, cell.layout, cell.side) for cell in spread)
    return [count for _, count in counts.most_common()]


@given(num_episodes=st.integers(400, 2000), imbalance=st.floats(0, 4))
@settings(max_examples=25)
def test_imbalance_is_the_exponent_of_the_scenarios_shares_and_of_nothing_else(
    num_episodes: int, imbalance: float
) -> None:
    for shares in (SCENARIO_SHARES, shares_of(["side", "colour"])):
        raised = imbalanced(shares, imbalance)
        assert list(raised) == list(shares)  # the order of cells is part of the bytes
        for field, values in shares.items():
            assert list(raised[field]) == list(values)
            assert sum(raised[field].values()) == pytest.approx(1)
            exponent = imbalance if field in ("num_boxes", "layout", "side") else 1
            for value, other in itertools.pairwise(values):
                ratio = (values[value] / values[other]) ** exponent
                assert raised[field][value] / raised[field][other] == pytest.approx(ratio)
    cells = collections.Counter(cell.name for cell in spread_scenarios(num_episodes, imbalanced(SCENARIO_SHARES, 0)))
    assert max(cells.values()) / num_episodes == pytest.approx(0.7 * 0.45 / 8, abs=1 / num_episodes)


def test_an_imbalance_of_one_is_what_the_collection_always_was() -> None:
    assert imbalanced(SCENARIO_SHARES, 1) is SCENARIO_SHARES
    assert imbalanced(SCENARIO_SHARES, 1.0) is SCENARIO_SHARES


def test_higher_imbalances_are_more_uneven_and_none_is_even() -> None:
    spreads = [counts_by_scenario(250, imbalance) for imbalance in (0, 1, 2, 4)]
    ratios = [counts[0] / counts[-1] for counts in spreads]
    assert ratios == sorted(ratios)
    assert max(spreads[0]) - min(spreads[0]) <= 1
    assert ratios[1] > 2
    assert ratios[3] > 2 * ratios[2] > 4 * ratios[1]


@given(num_episodes=st.integers(2 * NUM_SCENARIOS, 300), imbalance=st.floats(0, 2000))
@settings(max_examples=40)
def test_every_scenario_keeps_two_episodes_whatever_the_imbalance(num_episodes: int, imbalance: float) -> None:
    counts = counts_by_scenario(num_episodes, imbalance, at_least=2)
    assert len(counts) == NUM_SCENARIOS
    assert min(counts) >= 2


def test_an_imbalance_has_a_folder_of_its_own_and_one_has_the_old_one(tmp_path: Path) -> None:
    settings = SimEpisodes(num_episodes=16, named_by=["side"], imbalance=1, seed=5, image_size=16, num_workers=1)
    folders = {
        replace(settings, imbalance=imbalance).ensure(tmp_path).name: imbalance for imbalance in (0, 1, 1.0, 2, 2.0)
    }
    assert set(folders.values()) == {0, 1, 2}
    scenarios = collections.Counter(
        path.stem.split("_", 3)[3].rsplit("_", 2)[0]
        for path in (tmp_path / next(name for name, imbalance in folders.items() if imbalance == 2)).glob("*.h5")
    )
    assert len(scenarios) == NUM_SCENARIOS
    assert min(scenarios.values()) == 2


def test_too_few_episodes_for_an_imbalance_are_refused() -> None:
    settings = SimEpisodes(num_episodes=15, named_by=["side"], imbalance=1, seed=5, image_size=16, num_workers=1)
    with pytest.raises(ConfigError, match=r"num_episodes=15: with imbalance=0\.5 each of 8 .* expected 16 or more"):
        replace(settings, imbalance=0.5)


@pytest.mark.parametrize("value", every(2, ["-1", ".inf", ".nan", "null"]))
def test_an_imbalance_that_is_none_is_refused(value: str) -> None:
    cfg = compose_config([f"dataset.generator.imbalance={value}"])
    with pytest.raises(ConfigError, match=r"dataset\.generator\.imbalance: "):
        config.check_config(cfg)


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
    paths = sorted(settings.ensure(tmp_path).glob("*.h5"))
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
