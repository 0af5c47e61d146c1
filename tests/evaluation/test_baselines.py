"""Check the unseeing predictors against loops that say what they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_episodes import actions, law, made_episode, made_reader, with_actions
from made_scales import made_scale

from mobile_vla.data.batches import WindowReader
from mobile_vla.evaluation.baselines import baseline_metrics
from mobile_vla.metrics import PREDICTORS
from mobile_vla.schema import Episode

NAMES = ("linear_x", "angular_z")
COLUMNS = [0, 2]
K = 3


def collection(lengths: Sequence[int], *, seed: int, scenarios: Sequence[str]) -> list[Episode]:
    return [
        made_episode(i, num_frames=n, scenario=scenarios[i % len(scenarios)], actions=actions(n, seed=seed + i))
        for i, n in enumerate(lengths)
    ]


def mean_of(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.mean(np.array(rows, np.float64), axis=0)


def predictors(train: Sequence[Episode]) -> dict[str, Callable[[Episode, int, int], np.ndarray]]:
    """Return each predictor as a function of (episode, current frame, target frame)."""

    def mean(episode: Episode, current: int, frame: int) -> np.ndarray:
        return mean_of([row for e in train for row in e.actions])

    def hold_last(episode: Episode, current: int, frame: int) -> np.ndarray:
        return episode.actions[current - 1] if current > 0 else np.zeros(3)

    def time_lookup(episode: Episode, current: int, frame: int) -> np.ndarray:
        rows = [e.actions[frame] for e in train if frame < e.num_frames]
        return mean_of(rows) if rows else mean(episode, current, frame)

    def scenario_time_lookup(episode: Episode, current: int, frame: int) -> np.ndarray:
        rows = [e.actions[frame] for e in train if e.scenario == episode.scenario and frame < e.num_frames]
        return mean_of(rows) if rows else time_lookup(episode, current, frame)

    return {
        "mean": mean,
        "hold_last": hold_last,
        "time_lookup": time_lookup,
        "scenario_time_lookup": scenario_time_lookup,
    }


lengths = st.lists(st.integers(2, 9), min_size=1, max_size=5)


@law
@given(train_lengths=lengths, val_lengths=lengths, seed=st.integers(0, 100))
def test_each_baseline_is_what_its_definition_says(train_lengths: list, val_lengths: list, seed: int) -> None:
    train = collection(train_lengths, seed=seed, scenarios=["a", "b"])
    val = collection(val_lengths, seed=seed + 50, scenarios=["b", "a", "never seen"])
    reader = made_reader(val, window_size=2, fwd_pred_next_n=K, action_names=NAMES)
    found = baselines_of(train, reader)
    expected = {}
    for name, predict in predictors(train).items():
        errors = [
            (predict(e, current, frame) - e.actions[frame])[COLUMNS]
            for e in val
            for current in range(e.num_frames)
            for frame in range(current, min(current + K, e.num_frames))
        ]
        squared = np.square(np.array(errors, np.float64))
        expected[f"baseline/{name}/rmse"] = math.sqrt(squared.mean())
        spread = np.concatenate([e.actions for e in train])[:, COLUMNS].astype(np.float64).std(0)
        varies = spread > 0 if (spread > 0).any() else spread == 0
        scaled = squared[:, varies] / np.square(np.where(spread > 0, spread, 1)[varies])
        expected[f"baseline/{name}/nrmse"] = math.sqrt(scaled.mean())
        for index, dimension in enumerate(NAMES):
            expected[f"baseline/{name}/rmse/{dimension}"] = math.sqrt(squared[:, index].mean())
    assert found == pytest.approx(expected, abs=1e-6)
    assert {key.split("/")[1] for key in found} == set(PREDICTORS)


def baselines_of(train: list[Episode], reader: WindowReader) -> dict[str, float]:
    cut = [with_actions(e, NAMES) for e in train]
    return baseline_metrics(
        train=cut,
        windows=reader.windows,
        targets=reader.current_targets(),
        scale=made_scale(NAMES, train=cut),
    )


def test_nothing_is_learnt_from_what_is_measured() -> None:
    train = collection([6, 6], seed=0, scenarios=["a"])
    val = [made_episode(9, num_frames=6, scenario="a", actions=np.full((6, 3), 1000, np.float32))]
    reader = made_reader(val, window_size=2, fwd_pred_next_n=K, action_names=NAMES)
    found = baselines_of(train, reader)
    for name in ("mean", "time_lookup", "scenario_time_lookup"):
        assert found[f"baseline/{name}/rmse"] > 900
