"""Inner episodes come out of train alone: whoever tunes by them has seen nothing of val."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from made_episodes import law, made_episode

from mobile_vla.data.split import hold_out_inner, split_episodes
from mobile_vla.errors import ConfigError
from mobile_vla.schema import Episode


def collection(sizes: list[int]) -> list[Episode]:
    """Return ``sizes[s]`` episodes of scenario s."""
    scenarios = [f"scenario_{s}" for s, size in enumerate(sizes) for _ in range(size)]
    return [made_episode(i, num_frames=2, scenario=scenario) for i, scenario in enumerate(scenarios)]


@law
@given(st.lists(st.integers(2, 30), min_size=1, max_size=5), st.floats(0.1, 0.9), st.integers(0, 5))
def test_inner_is_a_share_of_train_and_the_rest_stays(sizes: list[int], fraction: float, seed: int) -> None:
    episodes = collection(sizes)
    whole = split_episodes(episodes, val_fraction=0.3, seed=seed)
    num_inner = round(fraction * len(whole.train))
    assume(0 < num_inner < len(whole.train))

    split = hold_out_inner(whole, episodes, fraction=fraction, seed=seed)

    assert (split.val, split.unseen) == (whole.val, whole.unseen)
    assert len(split.inner) == num_inner
    assert sorted(split.train + split.inner) == list(whole.train)
    assert split == hold_out_inner(whole, episodes[::-1], fraction=fraction, seed=seed)
    assert split.hash != whole.hash


def test_a_split_without_inner_episodes_is_what_it_was(tmp_path: Path) -> None:
    split = split_episodes(collection([6, 4]), val_fraction=0.3, seed=0)

    split.write(tmp_path / "split.json")

    assert json.loads((tmp_path / "split.json").read_text()).keys() == {"hash", "train", "val", "unseen"}


def test_a_share_that_leaves_nothing_is_refused() -> None:
    episodes = collection([6, 4])
    split = split_episodes(episodes, val_fraction=0.3, seed=0)

    with pytest.raises(ConfigError, match=r"dataset\.inner_fraction=0\.01 of 7 train episodes leaves none"):
        hold_out_inner(split, episodes, fraction=0.01, seed=0)
