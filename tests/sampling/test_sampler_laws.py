"""Check the laws that hold for every sampler on every table; a new option in conf/sampler is covered as it is."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import UNEVEN, VARIANTS, Problem, config, law, problems, scores_of, table

from mobile_vla.build import check_config
from mobile_vla.sampling.scores import Scores

every_sampler = pytest.mark.parametrize("variant", VARIANTS)

IGNORES_THE_SEED = {"sampler=sequential"}

steps = st.integers(0, 200)
score_seeds = st.integers(0, 99)

DEGENERATE = {
    "one window": Problem(windows=table([2], window_size=1, fwd_pred_next_n=1, padding="none"), batch_size=5, seed=0),
    "one episode": Problem(windows=table([9]), batch_size=4, seed=0),
    "one window an episode": Problem(windows=table([5] * 6, ["a", "b"], padding="none"), batch_size=4, seed=0),
    "batch larger than table": Problem(windows=table([2, 3], ["a", "b"]), batch_size=17, seed=0),
    "batch of one": Problem(windows=table([4, 3]), batch_size=1, seed=0),
}


def assert_lawful(problem: Problem, variant: str, step: int, scores: Scores) -> None:
    draw = problem.sampler(variant).draw(step, scores)
    assert draw.ids.dtype == np.int64
    assert draw.ids.shape == draw.weights.shape == (problem.batch_size,)
    assert ((draw.ids >= 0) & (draw.ids < len(problem.windows))).all()
    assert draw.weights.dtype == np.float32
    assert (np.isfinite(draw.weights) & (draw.weights > 0)).all()


@every_sampler
@law
@given(problem=problems(), step=steps, score_seed=score_seeds)
def test_a_draw_is_one_batch_of_rows_of_the_table(variant: str, problem: Problem, step: int, score_seed: int) -> None:
    assert_lawful(problem, variant, step, scores_of(problem.windows, seed=score_seed))


@every_sampler
@pytest.mark.parametrize("problem", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_the_smallest_tables_can_be_drawn_from_seen_or_unseen(variant: str, problem: Problem) -> None:
    for share_seen in (0.0, 1.0):
        scores = scores_of(problem.windows, seed=0, share_seen=share_seen)
        for step in (0, 1, 30):
            assert_lawful(problem, variant, step, scores)
        assert problem.sampler(variant).probabilities(scores).sum() == pytest.approx(1)


@every_sampler
@law
@given(problem=problems(), order=st.lists(steps, min_size=2, max_size=6), score_seed=score_seeds)
def test_a_draw_depends_on_its_step_and_scores_and_not_on_what_was_drawn_before(
    variant: str, problem: Problem, order: list[int], score_seed: int
) -> None:
    scores = scores_of(problem.windows, seed=score_seed)
    used = problem.sampler(variant)
    for step in [*order, *order]:
        np.testing.assert_array_equal(used.draw(step, scores).ids, problem.sampler(variant).draw(step, scores).ids)
        used.probabilities(scores)


@every_sampler
def test_what_a_caller_does_to_a_draw_changes_no_later_draw(variant: str) -> None:
    sampler, scores = UNEVEN.sampler(variant), scores_of(UNEVEN.windows, seed=0)
    draw = sampler.draw(20, scores)
    expected = draw.ids.copy()
    draw.ids[:] = 0
    np.testing.assert_array_equal(sampler.draw(20, scores).ids, expected)


@every_sampler
def test_a_draw_leaves_the_scores_alone(variant: str) -> None:
    scores = scores_of(UNEVEN.windows, seed=0)
    before = scores.state()
    UNEVEN.sampler(variant).draw(50, scores)
    for name, array in scores.state().items():
        np.testing.assert_array_equal(array, before[name])


@every_sampler
def test_another_seed_draws_something_else(variant: str) -> None:
    scores = scores_of(UNEVEN.windows, seed=0)
    first, other = (
        [UNEVEN.sampler(variant, seed=seed).draw(step, scores).ids.tolist() for step in range(20)] for seed in (0, 1)
    )
    assert (first == other) == (variant in IGNORES_THE_SEED)


@every_sampler
def test_steps_draw_different_batches(variant: str) -> None:
    sampler, scores = UNEVEN.sampler(variant), scores_of(UNEVEN.windows, seed=0)
    assert len({tuple(sampler.draw(step, scores).ids.tolist()) for step in range(7)}) == 7


@every_sampler
def test_global_random_state_is_neither_read_nor_moved(variant: str) -> None:
    scores, drawn = scores_of(UNEVEN.windows, seed=0), []
    for seed in (0, 1):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state(legacy=False)["state"], torch.get_rng_state()
        sampler = UNEVEN.sampler(variant)
        drawn.append([sampler.draw(step, scores).ids.tolist() for step in range(12)])
        assert random.getstate() == before[0]
        np.testing.assert_equal(np.random.get_state(legacy=False)["state"], before[1])
        assert torch.equal(torch.get_rng_state(), before[2])
    assert drawn[0] == drawn[1]


@every_sampler
@law
@given(problem=problems(), score_seed=score_seeds, share_seen=st.sampled_from([0.0, 0.5, 1.0]))
def test_probabilities_are_a_distribution_over_the_windows(
    variant: str, problem: Problem, score_seed: int, share_seen: float
) -> None:
    scores = scores_of(problem.windows, seed=score_seed, share_seen=share_seen)
    p = problem.sampler(variant).probabilities(scores)
    assert p.shape == (len(problem.windows),)
    assert (p >= 0).all()
    assert p.sum() == pytest.approx(1)


@every_sampler
@law
@given(problem=problems(), score_seed=score_seeds)
def test_a_sampler_that_claims_no_effect_is_uniform(variant: str, problem: Problem, score_seed: int) -> None:
    sampler = problem.sampler(variant)
    if sampler.no_effect_reason() is not None:
        p = sampler.probabilities(scores_of(problem.windows, seed=score_seed))
        np.testing.assert_allclose(p, 1 / len(problem.windows))


@every_sampler
def test_as_shipped_and_varied_its_config_passes_the_check(variant: str) -> None:
    check_config(config(variant))
