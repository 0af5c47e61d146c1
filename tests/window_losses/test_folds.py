"""Folds share out episodes evenly, whole, and by nothing but the seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_episodes import law, made_episode

from mobile_vla.errors import ConfigError
from mobile_vla.window_losses.folds import deal_folds

scenario_lists = st.lists(st.sampled_from(["near", "far", "left"]), min_size=2, max_size=20)


def episodes_of(scenarios: list[str]) -> list:
    return [made_episode(i, num_frames=3, scenario=scenario) for i, scenario in enumerate(scenarios)]


@law
@given(scenarios=scenario_lists, seed=st.integers(0, 99), data=st.data())
def test_every_episode_is_in_one_fold_and_scenarios_are_spread(
    scenarios: list[str], seed: int, data: st.DataObject
) -> None:
    num_folds = data.draw(st.integers(2, len(scenarios)))
    episodes = episodes_of(scenarios)
    folds = deal_folds(episodes, num_folds=num_folds, seed=seed)

    assert sorted(name for fold in folds for name in fold) == [e.name for e in episodes]
    scenario_of = {e.name: e.scenario for e in episodes}
    sizes = [len(fold) for fold in folds]
    assert len(sizes) == num_folds
    assert min(sizes) >= max(1, max(sizes) - 1)
    for scenario in scenarios:
        shares = [Counter(scenario_of[name] for name in fold)[scenario] for fold in folds]
        assert max(shares) - min(shares) <= 1


@law
@given(scenarios=scenario_lists, seed=st.integers(0, 99), data=st.data())
def test_the_order_of_episodes_does_not_matter(scenarios: list[str], seed: int, data: st.DataObject) -> None:
    episodes = episodes_of(scenarios)
    shuffled = data.draw(st.permutations(episodes))
    assert deal_folds(shuffled, num_folds=2, seed=seed) == deal_folds(episodes, num_folds=2, seed=seed)


def test_seeds_deal_differently() -> None:
    episodes = episodes_of(["near"] * 12)
    assert len({tuple(deal_folds(episodes, num_folds=2, seed=seed)) for seed in range(10)}) > 5


@pytest.mark.parametrize("num_folds", [-1, 0, 1, 4])
def test_as_many_folds_as_there_can_be(num_folds: int) -> None:
    with pytest.raises(ConfigError, match=rf"--folds {num_folds}: expected 2 or more, and at most .*\(3\)"):
        deal_folds(episodes_of(["near", "far", "far"]), num_folds=num_folds, seed=0)
