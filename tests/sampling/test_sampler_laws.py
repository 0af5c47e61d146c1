"""Check the laws that hold for every sampler on every table; a new option in conf/sampler is covered as it is."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import (
    UNEVEN,
    VARIANTS,
    FixedMeasures,
    Problem,
    config,
    draw_of,
    each_variant,
    law,
    measures_of,
    no_measures,
    problems,
    scores_of,
    table,
)

from mobile_vla.config import check_config
from mobile_vla.sampling.contract import draw_windows
from mobile_vla.sampling.scores import Scores

every_sampler = pytest.mark.parametrize("variant", each_variant())

IGNORES_THE_SEED = {"sampler=sequential"}
LOOKS = ("gradnorm_is", "rho", "selective_backprop")

steps = st.integers(0, 200)
score_seeds = st.integers(0, 99)

DEGENERATE = {
    "one window": Problem(windows=table([2], window_size=1, fwd_pred_next_n=1, padding="none"), batch_size=5, seed=0),
    "one episode": Problem(windows=table([9]), batch_size=4, seed=0),
    "one window an episode": Problem(windows=table([5] * 6, ["a", "b"], padding="none"), batch_size=6, seed=0),
    "batch larger than table": Problem(windows=table([2, 3], ["a", "b"]), batch_size=17, seed=0),
    "batch as large as table": Problem(windows=table([4, 3], ["a", "b"]), batch_size=7, seed=0),
}


def assert_lawful(problem: Problem, variant: str, step: int, scores: Scores) -> None:
    draw = draw_of(problem, problem.sampler(variant), step, scores)
    assert draw.ids.dtype == np.int64
    assert draw.ids.shape == draw.weights.shape == (problem.batch_size,)
    assert ((draw.ids >= 0) & (draw.ids < len(problem.windows))).all()
    assert draw.weights.dtype == np.float32
    # A window that its base would never draw weighs nothing as a loss.
    is_fine = draw.weights >= 0 if "loss_weighted" in variant else draw.weights > 0
    assert (np.isfinite(draw.weights) & is_fine).all()


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
        sampler = problem.sampler(variant)
        for step in (0, 1, 30):
            assert_lawful(problem, variant, step, scores)
            assert sampler.probabilities(step, scores, problem.all_ids).sum() == pytest.approx(1)


@pytest.mark.parametrize("variant", each_variant([v for v in VARIANTS if "stratified" not in v and "mixture" not in v]))
def test_a_batch_of_one_window_can_be_drawn(variant: str) -> None:
    problem = Problem(windows=table([4, 3], ["a", "b"]), batch_size=1, seed=0)
    for step in (0, 30):
        assert_lawful(problem, variant, step, scores_of(problem.windows, seed=0))


@every_sampler
@pytest.mark.parametrize("loss", [0.0, 1e-30, 1e30])
def test_the_smallest_and_the_largest_losses_can_be_drawn_by(variant: str, loss: float) -> None:
    scores, num_windows = scores_of(UNEVEN.windows, seed=0), len(UNEVEN.windows)
    scores.update(3, np.arange(num_windows - 3), np.full(num_windows - 3, loss, np.float32))
    sampler = UNEVEN.sampler(variant)
    draw = draw_windows(sampler, 50, scores, FixedMeasures(np.full(num_windows, loss)))
    assert np.isfinite(draw.weights).all()
    p = sampler.probabilities(50, scores, UNEVEN.all_ids)
    assert (p >= 0).all()
    assert p.sum() == pytest.approx(1)


@every_sampler
@law
@given(problem=problems(), order=st.lists(steps, min_size=2, max_size=4), score_seed=score_seeds)
def test_a_draw_depends_on_its_step_and_scores_and_not_on_what_was_drawn_before(
    variant: str, problem: Problem, order: list[int], score_seed: int
) -> None:
    scores = scores_of(problem.windows, seed=score_seed)
    used = problem.sampler(variant)
    for step in [*order, *order]:
        fresh = problem.sampler(variant)
        draw, expected = draw_of(problem, used, step, scores), draw_of(problem, fresh, step, scores)
        np.testing.assert_array_equal(draw.ids, expected.ids)
        np.testing.assert_array_equal(draw.weights, expected.weights)
        used.probabilities(step, scores, problem.all_ids)


@every_sampler
def test_scores_that_came_step_by_step_are_drawn_by_as_those_of_a_checkpoint(variant: str) -> None:
    windows, made = UNEVEN.windows, np.random.default_rng(0)
    followed, scores = UNEVEN.sampler(variant), Scores(UNEVEN.windows, smoothing=0.5)
    for step in range(25):
        loaded, fresh = Scores(windows, smoothing=0.5), UNEVEN.sampler(variant)
        loaded.load(scores.state())
        draw, expected = draw_of(UNEVEN, followed, step, scores), draw_of(UNEVEN, fresh, step, loaded)
        np.testing.assert_array_equal(draw.ids, expected.ids)
        np.testing.assert_array_equal(draw.weights, expected.weights)
        np.testing.assert_array_equal(
            followed.probabilities(step, scores, UNEVEN.all_ids), fresh.probabilities(step, loaded, UNEVEN.all_ids)
        )
        losses = made.exponential(size=len(draw.ids))
        scores.update(step, draw.ids, np.where(losses > 3, np.nan, losses).astype(np.float32))


@every_sampler
def test_scores_that_were_replaced_are_drawn_by_as_new_ones(variant: str) -> None:
    used, scores = UNEVEN.sampler(variant), Scores(UNEVEN.windows, smoothing=0.5)
    others = scores_of(UNEVEN.windows, seed=1)
    for step in range(3):
        scores.update(step, UNEVEN.all_ids, np.full(len(UNEVEN.windows), 1.0 + step, np.float32))
        others.update(step, UNEVEN.all_ids[:30], np.arange(30, dtype=np.float32))
        draw_of(UNEVEN, used, 40 + step, scores)
    scores.load(others.state())
    expected = draw_of(UNEVEN, UNEVEN.sampler(variant), 50, others)
    np.testing.assert_array_equal(draw_of(UNEVEN, used, 50, scores).ids, expected.ids)


@every_sampler
def test_what_a_caller_does_to_a_draw_changes_no_later_draw(variant: str) -> None:
    sampler, scores = UNEVEN.sampler(variant), scores_of(UNEVEN.windows, seed=0)
    draw = draw_of(UNEVEN, sampler, 20, scores)
    ids, weights = draw.ids.copy(), draw.weights.copy()
    draw.ids[:] = 0
    draw.weights[:] = 9
    again = draw_of(UNEVEN, sampler, 20, scores)
    np.testing.assert_array_equal(again.ids, ids)
    np.testing.assert_array_equal(again.weights, weights)


@every_sampler
def test_a_draw_leaves_the_scores_alone(variant: str) -> None:
    scores = scores_of(UNEVEN.windows, seed=0)
    before, sampler = scores.state(), UNEVEN.sampler(variant)
    draw_of(UNEVEN, sampler, 50, scores)
    sampler.probabilities(50, scores, UNEVEN.all_ids)
    for name, array in scores.state().items():
        np.testing.assert_array_equal(array, before[name])
    assert scores.version == 1


@every_sampler
def test_another_seed_draws_something_else(variant: str) -> None:
    scores = scores_of(UNEVEN.windows, seed=0)
    samplers = [UNEVEN.sampler(variant, seed=seed) for seed in (0, 1)]
    first, other = ([draw_of(UNEVEN, s, step, scores).ids.tolist() for step in range(20)] for s in samplers)
    assert (first == other) == (variant in IGNORES_THE_SEED)


@every_sampler
def test_steps_draw_different_batches(variant: str) -> None:
    sampler, scores = UNEVEN.sampler(variant), scores_of(UNEVEN.windows, seed=0)
    assert len({tuple(draw_of(UNEVEN, sampler, step, scores).ids.tolist()) for step in range(7)}) == 7


@every_sampler
def test_global_random_state_is_neither_read_nor_moved(variant: str) -> None:
    scores, drawn = scores_of(UNEVEN.windows, seed=0), []
    for seed in (0, 1):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state(legacy=False)["state"], torch.get_rng_state()
        sampler = UNEVEN.sampler(variant)
        drawn.append([draw_of(UNEVEN, sampler, step, scores).ids.tolist() for step in range(12)])
        sampler.probabilities(12, scores, UNEVEN.all_ids)
        assert random.getstate() == before[0]
        np.testing.assert_equal(np.random.get_state(legacy=False)["state"], before[1])
        assert torch.equal(torch.get_rng_state(), before[2])
    assert drawn[0] == drawn[1]


@every_sampler
def test_only_those_look_that_say_so_and_at_no_more_than_they_say(variant: str) -> None:
    sampler, scores = UNEVEN.sampler(variant), scores_of(UNEVEN.windows, seed=0)
    if "loss_weighted" in variant or not any(name in variant for name in LOOKS):
        draw_windows(sampler, 20, scores, no_measures)
        return
    measures = measures_of(UNEVEN)
    draw_windows(sampler, 20, scores, measures)
    num_candidates = {
        "gradnorm_is": min(24, 60),
        "rho": 16 if "keep" in variant else min(80, 60),
        "selective_backprop": 8 if "candidates_per_draw=1" in variant else 32,
    }
    assert measures.num_windows == next(number for name, number in num_candidates.items() if name in variant)


@every_sampler
@law
@given(problem=problems(), step=steps, score_seed=score_seeds, share_seen=st.sampled_from([0.0, 0.5, 1.0]))
def test_probabilities_are_a_distribution_over_the_windows(
    variant: str, problem: Problem, step: int, score_seed: int, share_seen: float
) -> None:
    scores = scores_of(problem.windows, seed=score_seed, share_seen=share_seen)
    sampler = problem.sampler(variant)
    p = sampler.probabilities(step, scores, problem.all_ids)
    assert p.shape == (len(problem.windows),)
    assert p.dtype == np.float64
    assert (p >= 0).all()
    assert p.sum() == pytest.approx(1)
    some = np.random.default_rng(step).integers(0, len(p), 3)
    np.testing.assert_allclose(sampler.probabilities(step, scores, some), p[some], rtol=1e-12)


@every_sampler
@law
@given(problem=problems(), step=steps, score_seed=score_seeds)
def test_a_sampler_that_claims_no_effect_is_uniform(variant: str, problem: Problem, step: int, score_seed: int) -> None:
    sampler = problem.sampler(variant)
    if sampler.no_effect_reason() is not None:
        p = sampler.probabilities(step, scores_of(problem.windows, seed=score_seed), problem.all_ids)
        np.testing.assert_allclose(p, 1 / len(problem.windows))


@every_sampler
def test_as_shipped_and_varied_its_config_passes_the_check(variant: str) -> None:
    check_config(config(variant))
