"""Check the score table against its definition."""

from __future__ import annotations

import math

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


def levels_of(history: list[list[tuple[int, float]]]) -> list[float]:
    """Return the running mean of the losses at each step by its definition: 128 windows fade to 1/e."""
    level, levels = math.nan, []
    for batch in history:
        finite = [loss for _, loss in batch if np.isfinite(loss)]
        if finite:
            past = 0.0 if math.isnan(level) else math.exp(-len(finite) / 128)
            level = past * (0 if math.isnan(level) else level) + (1 - past) * sum(finite) / len(finite)
        levels.append(level)
    return levels


@law
@given(history=st.lists(batches, max_size=5), smoothing=st.sampled_from([0.0, 0.3, 0.9]))
def test_scores_are_what_their_definition_says(history: list[list[tuple[int, float]]], smoothing: float) -> None:
    scores, levels = enter(Scores(WINDOWS, smoothing=smoothing), history), levels_of(history)
    for window in range(NUM_WINDOWS):
        expected, visits, last_step = None, 0, -1
        for step, batch in enumerate(history):
            own = [loss for i, loss in batch if i == window and np.isfinite(loss)]
            if own:
                relative = sum(own) / len(own) / levels[step] if levels[step] else 1
                expected = relative if expected is None else smoothing * expected + (1 - smoothing) * relative
                visits, last_step = visits + 1, step
        assert scores.visits[window] == visits
        assert scores.last_step[window] == last_step
        assert np.isnan(scores.loss[window]) if expected is None else scores.loss[window] == pytest.approx(expected)


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


def test_a_window_seen_long_ago_is_no_harder_than_one_seen_now() -> None:
    """While all losses fall alike, the scores say which windows are hard and not when they were seen."""
    windows = table([1600], window_size=1, fwd_pred_next_n=1)
    hardness = np.random.default_rng(0).uniform(0.5, 1.5, 1600)
    scores = Scores(windows, smoothing=0.5)
    for step, ids in enumerate(np.random.default_rng(1).permutation(1600).reshape(100, 16)):
        scores.update(step, ids, (hardness[ids] * np.exp(-step / 50)).astype(np.float32))
    assert stats.spearmanr(scores.loss, hardness).statistic > 0.9
    assert abs(stats.spearmanr(scores.loss, scores.last_step).statistic) < 0.2


def test_an_unseen_window_has_no_score_rather_than_zero() -> None:
    scores = enter(Scores(table([2]), smoothing=0.5), [[(0, 0.5)]])
    assert scores.loss[0] == 1
    assert np.isnan(scores.loss[1])


def test_a_table_of_another_length_is_not_taken_over() -> None:
    with pytest.raises(AssertionError):
        Scores(table([3]), smoothing=0.5).load(Scores(table([2]), smoothing=0.5).state())
