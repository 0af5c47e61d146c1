"""Check the scenario weights of group DRO against their recursion, whatever way the log of losses came."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tables import Problem, law, no_measures, score_file, table

from mobile_vla.sampling.contract import draw_windows
from mobile_vla.sampling.scores import Scores
from mobile_vla.sampling.strategies.group_dro import GroupDro
from mobile_vla.streams import Stream

PROBLEM = Problem(windows=table([12, 5, 9, 14], ["near", "far", "left", "far"]), batch_size=8, seed=0)
SCENARIOS = range(len(PROBLEM.windows.scenario_names))
REFERENCE = np.random.default_rng(3).uniform(0.2, 0.8, len(PROBLEM.windows)).astype(np.float32)

# One batch: windows and the losses that came back, some of them not finite.
batches = st.lists(
    st.tuples(st.integers(0, len(PROBLEM.windows) - 1), st.floats(0, 3, width=32) | st.just(math.nan)),
    min_size=1,
    max_size=6,
)
histories = st.lists(batches, max_size=12)
etas = st.sampled_from([0.0, 0.2, 3.0])
smoothings = st.sampled_from([0.0, 0.05, 1.0])


def group_dro(*, eta: float, smoothing: float, reference: np.ndarray = REFERENCE) -> GroupDro:
    return GroupDro(
        windows=PROBLEM.windows,
        batch_size=PROBLEM.batch_size,
        stream=Stream(PROBLEM.seed, "sampler"),
        file=score_file(PROBLEM.windows, reference),
        eta=eta,
        smoothing=smoothing,
    )


def enter(scores: Scores, history: list[list[tuple[int, float]]]) -> Scores:
    for step, batch in enumerate(history):
        scores.update(step, np.array([i for i, _ in batch]), np.array([loss for _, loss in batch], np.float32))
    return scores


def direct(history: list[list[tuple[int, float]]], *, eta: float, smoothing: float) -> list[float]:
    """Return the weights by the definition, scenario by scenario and batch by batch."""
    scenario = PROBLEM.windows.scenario.tolist()
    weights = [1 / len(SCENARIOS)] * len(SCENARIOS)
    references = [np.mean([r for r, other in zip(REFERENCE, scenario, strict=True) if other == s]) for s in SCENARIOS]
    latest: dict[int, float] = {}  # excess of the scenarios seen so far
    for batch in history:
        of_window = {i: np.mean([x for j, x in batch if j == i and math.isfinite(x)]) for i, x in batch if x == x}
        for s in SCENARIOS:
            losses = [loss for i, loss in of_window.items() if scenario[i] == s]
            if losses:
                latest[s] = max(float(np.mean(losses)) - references[s], 0) / float(np.mean(references))
        mean = float(np.mean(list(latest.values()))) if latest else 0
        grown = [weights[s] * math.exp(eta * latest.get(s, mean)) for s in SCENARIOS]
        weights = [(1 - smoothing) * w / sum(grown) + smoothing / len(grown) for w in grown]
    return weights


@law
@given(history=histories, eta=etas, smoothing=smoothings)
def test_the_weights_are_those_of_the_recursion(history: list, eta: float, smoothing: float) -> None:
    scores = enter(Scores(PROBLEM.windows, smoothing=0.5), history)
    found = group_dro(eta=eta, smoothing=smoothing).scenario_weights(scores)
    np.testing.assert_allclose(found, direct(history, eta=eta, smoothing=smoothing), rtol=1e-5)


@law
@given(history=histories, cut=st.integers(0, 12), eta=etas, smoothing=smoothings)
def test_followed_asked_once_or_loaded_from_a_checkpoint_they_are_the_same(
    history: list, cut: int, eta: float, smoothing: float
) -> None:
    scores, saved = (Scores(PROBLEM.windows, smoothing=0.5) for _ in range(2))
    followed, resumed = (group_dro(eta=eta, smoothing=smoothing) for _ in range(2))
    for i in range(len(history)):
        enter(scores, history[i : i + 1])
        followed.scenario_weights(scores)
    enter(saved, history[:cut])
    resumed.scenario_weights(enter(Scores(PROBLEM.windows, smoothing=0.5), history[::-1]))  # of another table
    loaded = Scores(PROBLEM.windows, smoothing=0.5)
    loaded.load(saved.state())
    enter(loaded, history[cut:])
    expected = group_dro(eta=eta, smoothing=smoothing).scenario_weights(scores)
    np.testing.assert_array_equal(followed.scenario_weights(scores), expected)
    np.testing.assert_array_equal(resumed.scenario_weights(loaded), expected)


def test_what_lags_behind_its_reference_gains_and_what_is_only_noisy_does_not() -> None:
    ids = np.arange(len(PROBLEM.windows))
    losses = REFERENCE + np.where(PROBLEM.windows.scenario == 1, 1, 0)
    noisy = np.where(PROBLEM.windows.scenario == 2, 2, REFERENCE).astype(np.float32)
    for reference, expected in ((REFERENCE, [False, True, False]), (noisy, [False, True, False])):
        scores = Scores(PROBLEM.windows, smoothing=0.5)
        for step in range(20):
            scores.update(step, ids, losses.astype(np.float32))
        weights = group_dro(eta=0.2, smoothing=0.05, reference=reference).scenario_weights(scores)
        assert (weights > 0.5).tolist() == expected


def test_a_scenario_without_windows_in_the_batches_keeps_its_standing() -> None:
    """Seen once and then missed by every batch, it is neither forgotten nor held against it."""
    windows, present = PROBLEM.windows, PROBLEM.windows.scenario != 2
    scores, ids = Scores(windows, smoothing=0.5), np.arange(len(windows))
    scores.update(0, ids, REFERENCE + np.float32(1))
    for step in range(1, 50):
        scores.update(step, ids[present], REFERENCE[present] + np.float32(1))
    np.testing.assert_allclose(group_dro(eta=0.2, smoothing=0.0).scenario_weights(scores), 1 / 3, rtol=1e-4)


@pytest.mark.parametrize("loss", [1e4, 1e30, 3e38])
def test_a_loss_without_bound_does_not_break_the_weights_and_smoothing_is_their_floor(loss: float) -> None:
    scores, ids = Scores(PROBLEM.windows, smoothing=0.5), np.arange(len(PROBLEM.windows))
    for step in range(5):
        scores.update(step, ids, np.where(PROBLEM.windows.scenario == step % 3, loss, 0.1).astype(np.float32))
        for smoothing in (0.0, 0.05):
            weights = group_dro(eta=2.0, smoothing=smoothing).scenario_weights(scores)
            assert weights.sum() == pytest.approx(1)
            assert (weights >= smoothing / 3 - 1e-12).all()


def test_windows_are_drawn_by_the_weight_of_their_scenario_and_alike_inside_it() -> None:
    windows, random = PROBLEM.windows, np.random.default_rng(0)
    scores = Scores(windows, smoothing=0.5)
    for step in range(6):
        scores.update(step, np.arange(len(windows)), random.exponential(size=len(windows)).astype(np.float32))
    sampler = group_dro(eta=0.5, smoothing=0.05)
    weights, counts = sampler.scenario_weights(scores), np.bincount(windows.scenario)
    assert np.ptp(weights) > 0.05
    p = (weights / counts)[windows.scenario]
    np.testing.assert_allclose(sampler.probabilities(9, scores, np.arange(len(windows))), p)
    drawn = np.concatenate([draw_windows(sampler, step, scores, no_measures).ids for step in range(1500)])
    assert stats.chisquare(np.bincount(drawn, minlength=len(windows)), p * len(drawn)).pvalue > 1e-4
