"""Check the score table against its definition."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tables import law, table

from mobile_vla.sampling.scores import Scores

WINDOWS = table([2, 2, 2], ["near", "far", "near"], window_size=1, fwd_pred_next_n=1)
NUM_WINDOWS = len(WINDOWS)

losses = st.floats(0, 1e6, width=32) | st.sampled_from([float("nan"), float("inf"), float("-inf")])
batches = st.lists(st.tuples(st.integers(0, NUM_WINDOWS - 1), losses), min_size=1, max_size=8)


def enter(scores: Scores, history: list[list[tuple[int, float]]], *, first_step: int = 0) -> Scores:
    for step, batch in enumerate(history, start=first_step):
        scores.update(step, np.array([i for i, _ in batch]), np.array([loss for _, loss in batch], np.float32))
    return scores


@law
@given(history=st.lists(batches, max_size=5), smoothing=st.sampled_from([0.0, 0.3, 0.9]))
def test_scores_are_what_their_definition_says(history: list[list[tuple[int, float]]], smoothing: float) -> None:
    scores = enter(Scores(WINDOWS, smoothing=smoothing), history)
    expected: dict[int, float] = {}
    visits, last_step, latest_losses, latest_scores = Counter[int](), {}, 0.0, 0.0
    for step, batch in enumerate(history):
        finite = {i: [loss for j, loss in batch if j == i and math.isfinite(loss)] for i, _ in batch}
        means = {i: sum(own) / len(own) for i, own in finite.items() if own}
        past = math.exp(-len(means) / 128)
        latest_losses = past * latest_losses + sum(means.values())
        latest_scores = past * latest_scores + sum(expected.get(i, 1) for i in means)
        level = latest_losses / latest_scores if latest_losses > 0 and latest_scores > 0 else 1
        for i, mean in means.items():
            relative = mean / level
            expected[i] = smoothing * expected[i] + (1 - smoothing) * relative if i in expected else relative
            visits[i], last_step[i] = visits[i] + 1, step
    for i in range(NUM_WINDOWS):
        assert scores.visits[i] == visits[i]
        assert scores.last_step[i] == last_step.get(i, -1)
        assert scores.loss[i] == pytest.approx(expected[i], rel=1e-4) if i in expected else np.isnan(scores.loss[i])


@law
@given(history=st.lists(batches, max_size=4), later=batches)
def test_a_loaded_table_goes_on_as_the_saved_one(
    history: list[list[tuple[int, float]]], later: list[tuple[int, float]]
) -> None:
    saved = enter(Scores(WINDOWS, smoothing=0.5), history)
    loaded = Scores(WINDOWS, smoothing=0.5)
    state = saved.state()
    enter(saved, [later], first_step=9)
    loaded.load(state)
    enter(loaded, [later], first_step=9)
    for name, array in saved.state().items():
        np.testing.assert_array_equal(loaded.state()[name], array)


@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_whatever_is_drawn_the_scores_keep_their_mean_and_say_what_is_hard_and_not_when_it_was_seen(
    batch_size: int,
) -> None:
    windows, random = table([1600], window_size=1, fwd_pred_next_n=1), np.random.default_rng(1)
    hardness = np.random.default_rng(0).uniform(0.1, 1.9, 1600)
    scores = Scores(windows, smoothing=0.5)
    for step in range(9600 // batch_size):
        hard = np.nan_to_num(scores.loss, nan=1.0) ** 2  # draws the harder ones far more often
        ids = random.choice(1600, batch_size, p=hard / hard.sum())
        loss = hardness[ids] * random.exponential(size=batch_size) ** 0.25 * np.exp(-step * batch_size / 3000)
        scores.update(step, ids, loss.astype(np.float32))
    seen = scores.visits > 0
    assert scores.loss[seen].mean() == pytest.approx(1, abs=0.2)
    assert stats.spearmanr(scores.loss[seen], hardness[seen]).statistic > 0.9
    assert abs(stats.spearmanr(scores.loss[seen] / hardness[seen], scores.last_step[seen]).statistic) < 0.3


def test_an_unseen_window_has_no_score_rather_than_zero() -> None:
    scores = enter(Scores(table([2]), smoothing=0.5), [[(0, 0.5)]])
    assert scores.loss[0] == 1
    assert np.isnan(scores.loss[1])


def test_a_table_of_another_length_is_not_taken_over() -> None:
    with pytest.raises(AssertionError):
        Scores(table([3]), smoothing=0.5).load(Scores(table([2]), smoothing=0.5).state())
