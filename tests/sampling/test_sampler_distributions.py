"""Hold what samplers really draw against what they say they draw, and against shuffled where they claim no effect."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from scipy import stats
from tables import UNEVEN, VARIANTS, Problem, law, problems, scores_of, table

from mobile_vla.sampling.contract import Sampler
from mobile_vla.sampling.scores import Scores

SUPPRESSING = {
    "sampler=hard_negative",
    "sampler=hard_negative sampler.warmup_passes=0 sampler.fraction=1 sampler.uniform_mix=0",
}
"""Their hard picks keep their distance inside a batch, which ``probabilities`` leaves out by contract."""

WITHOUT_REPLACEMENT = ("sampler=sequential", "sampler=shuffled")


def visits(sampler: Sampler, scores: Scores, *, first: int, num_steps: int) -> NDArray[np.int64]:
    ids = np.concatenate([sampler.draw(step, scores).ids for step in range(first, first + num_steps)])
    return np.bincount(ids, minlength=len(sampler.windows))


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in SUPPRESSING])
def test_frequencies_agree_with_probabilities(variant: str) -> None:
    sampler, scores = UNEVEN.sampler(variant), scores_of(UNEVEN.windows, seed=3)
    counts, p = visits(sampler, scores, first=100, num_steps=1500), sampler.probabilities(scores)
    assert counts[p == 0].sum() == 0
    assert stats.chisquare(counts[p > 0], p[p > 0] * counts.sum()).pvalue > 1e-3


@pytest.mark.parametrize("variant", WITHOUT_REPLACEMENT)
@law
@given(problem=problems())
def test_without_replacement_no_window_comes_twice_before_every_window_came_once(
    variant: str, problem: Problem
) -> None:
    sampler, scores = problem.sampler(variant), scores_of(problem.windows, seed=0)
    seen = np.zeros(len(problem.windows), int)
    for step in range(12):
        seen += np.bincount(sampler.draw(step, scores).ids, minlength=len(seen))
        assert seen.max() - seen.min() <= 1


def test_passes_are_shuffled_anew() -> None:
    problem = Problem(windows=table([20]), batch_size=20, seed=0)
    sampler, scores = problem.sampler("sampler=shuffled"), scores_of(problem.windows, seed=0)
    passes = [sampler.draw(step, scores).ids for step in range(3)]
    assert all(sorted(ids) == list(range(20)) for ids in passes)
    assert len({tuple(ids) for ids in passes}) == 3


def test_with_replacement_windows_repeat_and_a_third_is_missed() -> None:
    problem = Problem(windows=table([1000]), batch_size=1000, seed=0)
    sampler, scores = problem.sampler("sampler=shuffled sampler.replacement=true"), scores_of(problem.windows, seed=0)
    assert len(np.unique(sampler.draw(0, scores).ids)) == pytest.approx(632, abs=40)


def test_sequential_reads_the_table_in_order_and_begins_again() -> None:
    problem = Problem(windows=table([5]), batch_size=3, seed=0)
    sampler, scores = problem.sampler("sampler=sequential"), scores_of(problem.windows, seed=0)
    assert [sampler.draw(step, scores).ids.tolist() for step in range(3)] == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]


def test_uniform_episode_weight_draws_episodes_alike_and_windows_weight_draws_windows_alike() -> None:
    windows, scores = UNEVEN.windows, scores_of(UNEVEN.windows, seed=0)
    lengths = np.bincount(windows.episode)
    for weight, expected in (("uniform", np.full(len(lengths), 1 / len(lengths))), ("windows", lengths / len(windows))):
        sampler = UNEVEN.sampler(f"sampler=random_temporal sampler.episode_weight={weight}")
        shares = np.bincount(windows.episode, weights=sampler.probabilities(scores))
        np.testing.assert_allclose(shares, expected)
        drawn = np.bincount(windows.episode, weights=visits(sampler, scores, first=0, num_steps=1000))
        assert stats.chisquare(drawn, expected * drawn.sum()).pvalue > 1e-3


@law
@given(problem=problems())
def test_random_temporal_without_replacement_takes_each_episode_once_a_pass(problem: Problem) -> None:
    sampler = problem.sampler("sampler=random_temporal sampler.replacement=false")
    scores, episodes = scores_of(problem.windows, seed=0), np.unique(problem.windows.episode)
    drawn = np.concatenate([problem.windows.episode[sampler.draw(step, scores).ids] for step in range(8)])
    for first in range(0, len(drawn) - len(episodes) + 1, len(episodes)):
        assert set(drawn[first : first + len(episodes)]) == set(episodes)


NO_EFFECT = {
    "sampler=sequential": Problem(windows=table([3]), batch_size=3, seed=0),
    "sampler=random_temporal": Problem(windows=table([5, 5, 5, 5], padding="none"), batch_size=3, seed=0),
    "sampler=random_temporal sampler.replacement=false": Problem(
        windows=table([5, 5, 5, 5], padding="none"), batch_size=3, seed=0
    ),
    "sampler=random_temporal sampler.episode_weight=windows": Problem(windows=table([2, 3]), batch_size=3, seed=0),
    "sampler=stratified": Problem(windows=table([2, 3]), batch_size=3, seed=0),
    "sampler=hard_negative": Problem(windows=table([5], padding="none"), batch_size=3, seed=0),
}


def batches(problem: Problem, variant: str) -> Counter[tuple[int, ...]]:
    """Return how often each batch came at a step in the middle of a run, over many seeds."""
    scores = scores_of(problem.windows, seed=0)
    drawn = (problem.sampler(variant, seed=seed).draw(7, scores).ids for seed in range(600))
    return Counter(tuple(sorted(ids.tolist())) for ids in drawn)


@pytest.mark.parametrize("variant", NO_EFFECT)
def test_a_claim_of_no_effect_is_true(variant: str) -> None:
    problem = NO_EFFECT[variant]
    reason = problem.sampler(variant).no_effect_reason()
    assert reason is not None
    has_replacement = "drawing with replacement" in reason
    found = batches(problem, variant)
    expected = batches(problem, f"sampler=shuffled sampler.replacement={str(has_replacement).lower()}")
    outcomes = sorted(found.keys() | expected.keys())
    if len(outcomes) > 1:
        counts = np.array([[table[outcome] for outcome in outcomes] for table in (found, expected)])
        assert stats.chi2_contingency(counts).pvalue > 1e-3


def test_sequential_differs_where_a_batch_repeats_some_windows_only() -> None:
    problem = Problem(windows=table([3]), batch_size=4, seed=0)
    assert problem.sampler("sampler=sequential").no_effect_reason() is None


def test_one_window_an_episode_is_said_to_be_so() -> None:
    sampler = NO_EFFECT["sampler=random_temporal"].sampler("sampler=random_temporal")
    assert "every episode has exactly one window" in str(sampler.no_effect_reason())


@pytest.mark.parametrize(
    "variant", [v for v in VARIANTS if v != "sampler=random_temporal sampler.episode_weight=windows"]
)
def test_no_sampler_claims_no_effect_where_it_has_one(variant: str) -> None:
    assert UNEVEN.sampler(variant).no_effect_reason() is None
