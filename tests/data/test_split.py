"""Check that the split is by episode, in proportion, and moved by nothing but its own seed and the episodes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from made_episodes import law, made_episode

from mobile_vla.data.split import Split, split_episodes
from mobile_vla.errors import ConfigError
from mobile_vla.schema import Episode

DISTANCES = ("close", "medium", "far")


def collection(sizes: list[int]) -> list[Episode]:
    """Return ``sizes[s]`` episodes of scenario s."""
    scenarios = [f"scenario_{s}" for s, size in enumerate(sizes) for _ in range(size)]
    return [
        made_episode(i, num_frames=2, scenario=scenario, fields={"distance": DISTANCES[i % 3]})
        for i, scenario in enumerate(scenarios)
    ]


sizes = st.lists(st.integers(1, 40), min_size=1, max_size=6)
seeds = st.integers(0, 5)
fractions = st.floats(0.05, 0.95)


@law
@given(sizes=sizes, seed=seeds, val_fraction=fractions)
def test_parts_are_disjoint_cover_all_and_keep_proportions(sizes: list[int], seed: int, val_fraction: float) -> None:
    episodes = collection(sizes)
    num_val = round(val_fraction * len(episodes))
    assume(0 < num_val < len(episodes))
    split = split_episodes(episodes, val_fraction=val_fraction, seed=seed)
    assert sorted(split.train + split.val) == [e.name for e in episodes]
    assert len(split.val) == num_val
    assert split.unseen == ()
    scenario_of = {e.name: e.scenario for e in episodes}
    in_val = Counter(scenario_of[name] for name in split.val)
    for index, size in enumerate(sizes):
        assert abs(in_val[f"scenario_{index}"] - size * val_fraction) < 1


@law
@given(order=st.permutations(range(12)), seed=seeds)
def test_order_and_content_of_episodes_do_not_matter(order: list[int], seed: int) -> None:
    episodes = collection([7, 5])
    moved = [replace(episodes[i], num_frames=9, actions=np.ones((9, 2), np.float32), instruction="x") for i in order]
    expected = split_episodes(episodes, val_fraction=0.3, seed=seed)
    np.random.seed(seed)
    assert split_episodes(moved, val_fraction=0.3, seed=seed) == expected


def kept_by_scenario(sizes: list[int], *, train_episodes: int, seed: int = 0) -> tuple[Counter[str], Counter[str]]:
    """Return how many train episodes of each scenario there are in all, and how many are kept."""
    episodes = collection(sizes)
    scenario_of = {e.name: e.scenario for e in episodes}
    whole = split_episodes(episodes, val_fraction=0.3, seed=seed)
    split = split_episodes(episodes, val_fraction=0.3, seed=seed, train_episodes=train_episodes)
    return Counter(scenario_of[n] for n in whole.train), Counter(scenario_of[n] for n in split.train)


@law
@given(sizes=sizes, seed=seeds, data=st.data())
def test_fewer_train_episodes_are_a_part_of_more_and_nothing_else_moves(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    episodes = collection(sizes)
    assume(0 < round(0.3 * len(episodes)) < len(episodes))
    unseen = ["scenario_1"] if len(sizes) > 2 and data.draw(st.booleans()) else []
    whole = split_episodes(episodes, val_fraction=0.3, seed=seed, unseen=unseen)
    more = data.draw(st.integers(1, len(whole.train)))
    fewer = data.draw(st.integers(1, more))
    splits = [
        split_episodes(episodes, val_fraction=0.3, seed=seed, unseen=unseen, train_episodes=count)
        for count in (fewer, more, len(whole.train))
    ]
    assert [len(split.train) for split in splits] == [fewer, more, len(whole.train)]
    assert set(splits[0].train) <= set(splits[1].train) <= set(whole.train)
    assert {(split.val, split.unseen) for split in splits} == {(whole.val, whole.unseen)}
    assert splits[2] == whole
    assert (splits[0].hash == whole.hash) == (fewer == len(whole.train))


@law
@given(sizes=sizes, seed=seeds, data=st.data())
def test_the_kept_ones_are_spread_as_all_are_and_leave_no_scenario_out(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    assume(0 < round(0.3 * sum(sizes)) < sum(sizes))
    num_train = sum(sizes) - round(0.3 * sum(sizes))
    count = data.draw(st.integers(1, num_train))
    present, kept = kept_by_scenario(sizes, train_episodes=count, seed=seed)
    assert len(kept) == min(count, len(present))
    # No scenario with more than one episode has a stronger claim met than one that another scenario was refused.
    for richer in (s for s in kept if kept[s] > 1):
        for other in present:
            assert (kept[richer] - 0.5) / present[richer] <= (kept[other] + 0.5) / present[other] + 1e-12


def test_a_part_keeps_the_proportions_of_a_collection_like_the_embedded_one() -> None:
    for count in (60, 125):
        present, kept = kept_by_scenario([50, 41, 36, 30, 31, 25, 21, 16], train_episodes=count)
        for scenario, size in present.items():
            assert abs(kept[scenario] - count * size / present.total()) < 1


def test_who_is_kept_is_drawn_by_the_splits_seed() -> None:
    episodes = collection([20])
    kept = {split_episodes(episodes, val_fraction=0.3, seed=seed, train_episodes=4).train for seed in range(8)}
    assert len(kept) == 8


def test_more_train_episodes_than_there_are_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.train_episodes=8: the split leaves 7 episodes to train on"):
        split_episodes(collection([6, 4]), val_fraction=0.3, seed=0, train_episodes=8)


def test_seed_decides_who_is_where() -> None:
    splits = {split_episodes(collection([10, 10]), val_fraction=0.3, seed=seed).val for seed in range(8)}
    assert len(splits) == 8


def test_scenarios_of_one_size_are_not_split_at_the_same_places() -> None:
    episodes = collection([20, 20])
    places = [[int(name[-3:]) for name in split_episodes(episodes, val_fraction=0.3, seed=s).val] for s in range(4)]
    assert all([i for i in val if i < 20] != [i - 20 for i in val if i >= 20] for val in places)


def test_hash_changes_with_membership_only() -> None:
    split = Split(train=("a", "b"), val=("c",), unseen=())
    assert split.hash == Split(train=("a", "b"), val=("c",), unseen=()).hash
    others = [
        Split(train=("a",), val=("b", "c"), unseen=()),
        Split(train=("a", "c"), val=("b",), unseen=()),
        Split(train=("a", "b"), val=(), unseen=("c",)),
        Split(train=("a", "b", "d"), val=("c",), unseen=()),
    ]
    assert len({split.hash, *(other.hash for other in others)}) == 5


def test_manifest_holds_the_parts_and_their_hash(tmp_path: Path) -> None:
    split = split_episodes(collection([6]), val_fraction=0.5, seed=0)
    split.write(tmp_path / "split.json")
    written = json.loads((tmp_path / "split.json").read_text())
    assert written.pop("hash") == split.hash
    assert Split(**{part: tuple(names) for part, names in written.items()}) == split


def test_no_episode_stands_in_two_parts() -> None:
    with pytest.raises(AssertionError, match="two parts"):
        Split(train=("a", "b"), val=("b",), unseen=())


@law
@given(seed=seeds)
def test_unseen_takes_all_of_a_scenario_or_a_field_and_nothing_else(seed: int) -> None:
    episodes = collection([9, 9, 9])
    by_scenario = split_episodes(episodes, val_fraction=0.3, seed=seed, unseen=["scenario_1"])
    assert set(by_scenario.unseen) == {e.name for e in episodes if e.scenario == "scenario_1"}
    by_field = split_episodes(episodes, val_fraction=0.3, seed=seed, unseen=["distance=far"])
    assert set(by_field.unseen) == {e.name for e in episodes if e.fields["distance"] == "far"}
    both = split_episodes(episodes, val_fraction=0.3, seed=seed, unseen=["distance=far", "scenario_1"])
    assert set(both.unseen) == {*by_scenario.unseen, *by_field.unseen}
    for split in (by_scenario, by_field, both):
        assert sorted(split.train + split.val + split.unseen) == [e.name for e in episodes]
        assert len(split.val) == round(0.3 * (27 - len(split.unseen)))


def test_unseen_that_matches_nothing_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"dataset\.unseen: 'scenario_9' matches no episode; scenarios are scenario_0"
    ):
        split_episodes(collection([4]), val_fraction=0.5, seed=0, unseen=["scenario_9"])


@pytest.mark.parametrize(("val_fraction", "unseen"), [(0.05, []), (0.95, []), (0.5, ["scenario_0"])])
def test_a_part_without_episodes_is_refused(val_fraction: float, unseen: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"leaves \d train and \d val episodes of 4 .* both need at least one"):
        split_episodes(collection([4]), val_fraction=val_fraction, seed=0, unseen=unseen)
