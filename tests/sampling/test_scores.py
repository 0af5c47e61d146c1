"""Check the score table against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    for window in range(NUM_WINDOWS):
        expected, visits, last_step = None, 0, -1
        for step, batch in enumerate(history):
            own = [loss for i, loss in batch if i == window and np.isfinite(loss)]
            if own:
                mean = sum(own) / len(own)
                expected = mean if expected is None else smoothing * expected + (1 - smoothing) * mean
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


def test_an_unseen_window_has_no_score_rather_than_zero() -> None:
    scores = enter(Scores(table([2]), smoothing=0.5), [[(0, 0.0)]])
    assert scores.loss[0] == 0
    assert np.isnan(scores.loss[1])


def test_a_table_of_another_length_is_not_taken_over() -> None:
    with pytest.raises(AssertionError):
        Scores(table([3]), smoothing=0.5).load(Scores(table([2]), smoothing=0.5).state())
