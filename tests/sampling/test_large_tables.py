"""Check that what holds of a small table holds of one of which each draw sees a random part, within a percent."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tables import FixedMeasures, Problem, no_measures, scores_with, table

from mobile_vla.sampling.contract import draw_windows
from mobile_vla.sampling.parts.pools import POOL_SIZE, RANKED_WHOLE, random_pool
from mobile_vla.sampling.scores import Scores
from mobile_vla.streams import Stream

PROBLEM = Problem(windows=table([400] * 100, ["near", "far"]), batch_size=256, seed=0)
NUM_WINDOWS = len(PROBLEM.windows)
LOSSES = np.random.default_rng(0).exponential(size=NUM_WINDOWS)
RANK = np.argsort(np.argsort(LOSSES)) / NUM_WINDOWS
"""Share of the windows whose loss is below."""

AFTER_WARM_UP = 2000


@pytest.fixture(scope="module")
def scores() -> Scores:
    return scores_with(PROBLEM.windows, LOSSES)


def drawn(variant: str, scores: Scores, *, first: int = AFTER_WARM_UP, num_steps: int = 40) -> NDArray[np.int64]:
    sampler = PROBLEM.sampler(f"sampler={variant}")
    return np.concatenate(
        [draw_windows(sampler, step, scores, no_measures).ids for step in range(first, first + num_steps)]
    )


def test_the_table_is_larger_than_a_pool() -> None:
    assert 2 * max(RANKED_WHOLE, POOL_SIZE) < NUM_WINDOWS


def test_a_pool_holds_any_window_once_and_all_of_a_small_table() -> None:
    counts = np.zeros(1000, int)
    for step in range(200):
        pool = random_pool(Stream(0, "pool").at(step), 1000, 50)
        assert len(np.unique(pool)) == 50
        counts += np.bincount(pool, minlength=1000)
    # 10 on average, standard deviation 3.1.
    assert (counts < 28).all()
    assert counts.std() == pytest.approx(np.sqrt(10 * 0.95), rel=0.15)
    assert sorted(random_pool(Stream(0, "pool").at(0), 30)) == list(range(30))


def test_hard_windows_are_those_of_the_top_fraction(scores: Scores) -> None:
    ids = drawn("hard_negative sampler.fraction=1 sampler.uniform_mix=0 sampler.top_fraction=0.1", scores)
    assert RANK[ids].min() > 0.88
    # Uniform over the top tenth: its quarters are drawn alike (standard deviation 0.0043).
    np.testing.assert_allclose(np.quantile(RANK[ids], [0.25, 0.5, 0.75]), [0.925, 0.95, 0.975], atol=0.01)


@pytest.mark.parametrize("top_fraction", [0.2, 0.05, 0.01])
def test_as_many_draws_are_mined_as_stated_however_few_windows_are_hard(scores: Scores, top_fraction: float) -> None:
    ids = drawn(f"hard_negative sampler.uniform_mix=0 sampler.top_fraction={top_fraction}", scores)
    # Beside the hard windows come those that the base draws: 3 sigma are 0.014.
    is_near_top = RANK[ids] > 1 - top_fraction - 0.02
    assert is_near_top.mean() == pytest.approx(0.3 + 0.7 * (top_fraction + 0.02), abs=0.02)


def test_hard_windows_are_those_of_the_windows_seen_where_few_are() -> None:
    few = scores_with(PROBLEM.windows, np.where(np.arange(NUM_WINDOWS) % 8, np.nan, LOSSES))
    ids = drawn("hard_negative sampler.fraction=0.3 sampler.uniform_mix=0 sampler.top_fraction=0.2", few)
    # What is not mined comes from the base, an eighth of it seen and a fifth of that hard by chance.
    is_hard = (ids % 8 == 0) & (RANK[ids] > 0.77)
    assert is_hard.mean() == pytest.approx(0.3 + 0.7 * 0.23 / 8, abs=0.02)


@pytest.mark.parametrize(("step", "share"), [(0, 0.2), (375, 0.6), (750, 1.0)])
def test_a_curriculum_opens_the_easiest_share(scores: Scores, step: int, share: float) -> None:
    assert RANK[drawn("curriculum", scores, first=step, num_steps=1)].max() < share + 0.01
    # So slow that it stands still.
    ids = drawn(f"curriculum sampler.start={share} sampler.full_at_step=1000000000", scores)
    np.testing.assert_allclose(
        np.quantile(RANK[ids], [0.25, 0.5, 0.75, 0.99]), np.array([0.25, 0.5, 0.75, 0.99]) * share, atol=0.02
    )


def test_ranks_are_drawn_by_as_if_all_windows_were_ranked(scores: Scores) -> None:
    p = np.argsort(np.argsort(-LOSSES)) + 1.0
    p = p**-0.7 / (p**-0.7).sum() * 0.9 + 0.1 / NUM_WINDOWS
    ids = drawn("prioritized_rank", scores)
    for quantile in (0.1, 0.5, 0.9):
        share, expected = (RANK[ids] > quantile).mean(), p[quantile < RANK].sum()
        assert share == pytest.approx(expected, abs=0.01 + 2 / np.sqrt(len(ids)))


OF_A_POOL = (
    "hard_negative",
    "curriculum",
    "prioritized_rank",
    "rho sampler.file=FILE",
    "selective_backprop",
    "gradnorm_is sampler.min_tau=0",
)


@pytest.mark.parametrize("variant", OF_A_POOL)
def test_probabilities_sum_to_1_nearly_on_average(variant: str, scores: Scores) -> None:
    sampler = PROBLEM.sampler(f"sampler={variant}")
    steps = range(AFTER_WARM_UP, AFTER_WARM_UP + 12)
    total = [sampler.probabilities(step, scores, np.arange(NUM_WINDOWS)).sum() for step in steps]
    assert np.mean(total) == pytest.approx(1, abs=0.02)
    # Where much of the mass is that of the few first, a pool has more or less than its part of these.
    np.testing.assert_allclose(total, 1, atol=0.1)


@pytest.mark.parametrize("variant", ["prioritized", "lap", *OF_A_POOL])
def test_probabilities_say_how_hard_the_drawn_windows_are(variant: str, scores: Scores) -> None:
    sampler, measures = PROBLEM.sampler(f"sampler={variant}"), FixedMeasures(LOSSES)
    hardness = LOSSES - (PROBLEM.file_scores if "rho" in variant else 0)
    rank = np.argsort(np.argsort(hardness)) / NUM_WINDOWS
    ids = np.concatenate([draw_windows(sampler, AFTER_WARM_UP + i, scores, measures).ids for i in range(30)])
    p = sampler.probabilities(AFTER_WARM_UP, scores, np.arange(NUM_WINDOWS))
    # Of uniform ranks the standard deviation is 0.29.
    assert rank[ids].mean() == pytest.approx(p @ rank / p.sum(), abs=0.01 + 4 * 0.29 / np.sqrt(len(ids)))
