"""Check that a sampler says that it has no effect where that is true, and nowhere else."""

from __future__ import annotations

import re
from collections import Counter
from math import factorial, prod

import numpy as np
import pytest
from hypothesis import given
from scipy import stats
from tables import (
    UNEVEN,
    VARIANTS,
    FixedMeasures,
    Problem,
    each_variant,
    law,
    measures_of,
    problems,
    scores_of,
    scores_with,
    table,
)
from tiny_runs import every

from mobile_vla.sampling.contract import draw_windows

FIVE = Problem(windows=table([2, 3]), batch_size=3, seed=0)
FOUR_ALIKE = Problem(windows=table([5, 5, 5, 5], padding="none"), batch_size=3, seed=0)
ONE = Problem(windows=table([5], padding="none"), batch_size=3, seed=0)
TWICE = Problem(windows=table([2, 3]), batch_size=10, seed=0)

NO_EFFECT = {
    "sequential": TWICE,
    "random_temporal": FOUR_ALIKE,
    "random_temporal sampler.replacement=false": FOUR_ALIKE,
    "random_temporal sampler.episode_weight=windows": FIVE,
    "stratified": FIVE,
    "phase_balanced sampler.num_phases=1": FIVE,
    "action_balanced sampler.power=0": FIVE,
    "length_weighted": FOUR_ALIKE,
    "length_weighted sampler.power=0": FIVE,
    "static_scores sampler.file=FILE sampler.power=0": FIVE,
    "curriculum sampler.start=1": FIVE,
    "curriculum_random sampler.start=1": FIVE,
    "prioritized sampler.alpha=0": FIVE,
    "prioritized_rank sampler.alpha=0": FIVE,
    "prioritized_rank sampler.uniform_mix=1": FIVE,
    "lap sampler.alpha=0": FIVE,
    "selective_backprop sampler.beta=0": FIVE,
    "rho sampler.file=FILE sampler.keep=1": FIVE,
    "rho sampler.file=FILE": TWICE,
    "group_dro sampler.file=FILE": FIVE,
    "hard_negative": ONE,
    "gradnorm_is": ONE,
    "permuted_scores sampler.base.alpha=0": FIVE,
    "loss_weighted sampler@sampler.base=lap sampler.base.alpha=0": FIVE,
    "permuted_scores sampler@sampler.base=shuffled": FIVE,
    "loss_weighted sampler@sampler.base=shuffled": FIVE,
    "loss_weighted sampler@sampler.base=sequential": FIVE,
    "mixture": FIVE,
    "mixture sampler@sampler.samplers.first=lap sampler.samplers.first.alpha=0": FIVE,
}


@pytest.mark.parametrize("given_", every(3, NO_EFFECT))
def test_where_no_effect_is_claimed_no_batch_prefers_a_window(given_: str) -> None:
    problem, num_seeds = NO_EFFECT[given_], 250
    num_windows = len(problem.windows)
    losses = np.arange(num_windows) ** 2.0
    scores, measures = scores_with(problem.windows, losses), FixedMeasures(losses)
    samplers = [problem.sampler(f"sampler={given_}", seed=seed) for seed in range(num_seeds)]
    assert samplers[0].no_effect_reason() is not None
    for step in (1, 7):
        visits = [np.bincount(draw_windows(s, step, scores, measures).ids, minlength=num_windows) for s in samplers]
        found = Counter(tuple(counts.tolist()) for counts in visits)
        # Batches that repeat windows alike turn into each other where windows change places.
        for pattern in {tuple(sorted(counts)) for counts in found}:
            alike = [number for counts, number in found.items() if tuple(sorted(counts)) == pattern]
            possible = num_arrangements(pattern)
            if possible > 1 and sum(alike) >= 5 * possible:
                assert stats.chisquare(alike + [0] * (possible - len(alike))).pvalue > 1e-4
        total = np.sum(visits, axis=0)
        assert (np.abs(total - total.mean()) < 6 * np.sqrt(total.mean())).all()


def num_arrangements(pattern: tuple[int, ...]) -> int:
    """Return in how many ways the entries of ``pattern`` can be put in order."""
    return factorial(len(pattern)) // prod(factorial(n) for n in Counter(pattern).values())


UNIFORM = {"random_temporal sampler.episode_weight=windows"}


@pytest.mark.parametrize("variant", each_variant([v for v in VARIANTS if not any(given_ in v for given_ in UNIFORM)]))
def test_no_sampler_claims_no_effect_where_it_has_one(variant: str) -> None:
    assert UNEVEN.sampler(variant).no_effect_reason() is None


@pytest.mark.parametrize(
    "given_",
    [
        "sequential",  # a batch repeats some windows only
        "rho sampler.file=FILE",
        "rho sampler.file=FILE sampler.keep=1",
    ],
)
def test_a_batch_that_repeats_some_windows_more_than_others_has_an_effect(given_: str) -> None:
    problem = Problem(windows=table([3]), batch_size=4, seed=0)
    assert problem.sampler(f"sampler={given_}").no_effect_reason() is None


@pytest.mark.parametrize("variant", each_variant())
@law
@given(problem=problems())
def test_a_claim_of_no_effect_comes_with_equal_loss_weights(variant: str, problem: Problem) -> None:
    sampler, scores = problem.sampler(variant), scores_of(problem.windows, seed=0)
    if sampler.no_effect_reason() is not None:
        np.testing.assert_allclose(draw_windows(sampler, 30, scores, measures_of(problem)).weights, 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("random_temporal", "every episode has exactly one window"),
        ("length_weighted", "all windows are equally likely; drawing with replacement"),
        ("stratified", r"all windows belong to one scenario \(only\)"),
        ("group_dro sampler.file=FILE", r"all windows belong to one scenario \(only\)"),
    ],
)
def test_the_reason_is_said_in_words(given_: str, message: str) -> None:
    reason = FOUR_ALIKE.sampler(f"sampler={given_}").no_effect_reason()
    assert reason is not None
    assert re.search(message, reason)
