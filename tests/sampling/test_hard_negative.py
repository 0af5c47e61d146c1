"""Check what hard-negative mining mines, how often, and what it leaves to its base order."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import UNEVEN, Problem, law, no_measures, problems, scores_of, scores_with, table

from mobile_vla.sampling.contract import draw_windows
from mobile_vla.sampling.scores import Scores
from mobile_vla.sampling.strategies.hard_negative import HardNegative
from mobile_vla.sampling.strategies.sequential import Sequential
from mobile_vla.sampling.strategies.shuffled import Shuffled
from mobile_vla.schema import Draw, WindowTable
from mobile_vla.streams import Stream

score_seeds = st.integers(0, 99)


class FirstWindow:
    """A base order that is easy to tell apart: always window 0."""

    def __init__(self, *, windows: WindowTable, batch_size: int, stream: Stream) -> None:
        self.windows = windows
        self._batch_size = batch_size

    def draw(self, step: int, scores: Scores) -> Draw:
        return Draw.unweighted(np.zeros(self._batch_size, np.int64))

    def probabilities(self, step: int, scores: Scores, ids: np.ndarray) -> np.ndarray:
        return (ids == 0).astype(float)

    def no_effect_reason(self) -> None:
        return None


def hard_negative(
    problem: Problem,
    *,
    base=Sequential,
    fraction: float = 1.0,
    top_fraction: float = 0.3,
    uniform_mix: float = 0.0,
    warmup_passes: float = 0.0,
    dedupe_radius: int = 0,
) -> HardNegative:
    return HardNegative(
        windows=problem.windows,
        batch_size=problem.batch_size,
        stream=Stream(problem.seed, "sampler"),
        base=base,
        fraction=fraction,
        top_fraction=top_fraction,
        uniform_mix=uniform_mix,
        warmup_passes=warmup_passes,
        dedupe_radius=dedupe_radius,
    )


def hard_shares(scores: Scores, *, top_fraction: float) -> np.ndarray:
    """Return by the definition how hard each window is: 1 or 0, and what is left for each of equals on the edge."""
    seen = np.flatnonzero(scores.visits > 0)
    ordered = sorted(scores.loss[seen].tolist(), reverse=True)[: max(round(top_fraction * len(seen)), 1)]
    level = [int((scores.loss == loss).sum()) for loss in scores.loss]
    return np.array([ordered.count(loss) / max(n, 1) for loss, n in zip(scores.loss.tolist(), level, strict=True)])


@law
@given(problem=problems(), score_seed=score_seeds, top_fraction=st.sampled_from([0.01, 0.2, 0.5, 1.0]))
def test_hard_are_the_seen_windows_of_highest_loss(problem: Problem, score_seed: int, top_fraction: float) -> None:
    scores = scores_of(problem.windows, seed=score_seed, share_seen=0.9)
    expected = hard_shares(scores, top_fraction=top_fraction)
    if not expected.any():
        expected[0] = 1  # the base's
    p = hard_negative(problem, base=FirstWindow, top_fraction=top_fraction).probabilities(9, scores, problem.all_ids)
    np.testing.assert_allclose(p, expected / expected.sum(), atol=1e-12)


@law
@given(score_seed=score_seeds, radius=st.integers(0, 6), step=st.integers(0, 50))
def test_hard_picks_keep_their_distance_and_the_base_fills_up_what_is_left(
    score_seed: int, radius: int, step: int
) -> None:
    # Some 20 hard windows, so crowded that a batch of 24 cannot be filled with them.
    problem = Problem(windows=table([40, 12, 25]), batch_size=24, seed=score_seed)
    windows = problem.windows
    losses = np.random.default_rng(score_seed).permutation(len(windows)) + 1
    scores = scores_with(windows, np.where(problem.all_ids == 0, 0, losses))  # window 0 is the base's and not hard
    hard = set(np.flatnonzero(hard_shares(scores, top_fraction=0.3)).tolist())
    ids = draw_windows(hard_negative(problem, base=FirstWindow, dedupe_radius=radius), step, scores, no_measures).ids
    picks = ids[ids != 0]
    assert set(picks) <= hard

    def is_near(a: int, b: int) -> bool:
        return windows.episode[a] == windows.episode[b] and abs(int(windows.start[a]) - int(windows.start[b])) <= radius

    for index, pick in enumerate(picks):
        assert not any(is_near(pick, other) for other in picks[:index])
    if len(picks) < len(ids):
        assert all(any(is_near(window, pick) for pick in picks) for window in hard)


def test_of_equal_losses_no_more_are_hard_than_the_share_and_any_may_be() -> None:
    problem = Problem(windows=table([60]), batch_size=24, seed=0)
    scores = scores_with(problem.windows, np.where(problem.all_ids == 0, 0, 1))
    sampler, ever = hard_negative(problem, base=FirstWindow, top_fraction=0.1), set[int]()
    for step in range(200):
        picks = set(draw_windows(sampler, step, scores, no_measures).ids.tolist()) - {0}
        assert len(picks) == 6
        ever |= picks
    assert ever == set(range(1, 60))


def test_hard_windows_on_the_edge_are_drawn_as_often_as_harder_ones() -> None:
    problem = Problem(windows=table([60]), batch_size=1, seed=0)
    scores = scores_with(problem.windows, np.where(problem.all_ids < 3, 2, 1))
    sampler = hard_negative(problem, top_fraction=0.1)
    drawn = np.concatenate([draw_windows(sampler, step, scores, no_measures).ids for step in range(600)])
    assert (drawn < 3).mean() == pytest.approx(0.5, abs=0.1)


@law
@given(problem=problems(), score_seed=score_seeds)
def test_the_base_order_is_left_alone_in_the_warm_up_and_while_nothing_is_seen(
    problem: Problem, score_seed: int
) -> None:
    base = Shuffled(
        windows=problem.windows,
        batch_size=problem.batch_size,
        stream=Stream(problem.seed, "sampler").child("base"),
        replacement=False,
    )
    shuffled = partial(Shuffled, replacement=False)
    scores = scores_of(problem.windows, seed=score_seed)
    unseen = Scores(problem.windows, smoothing=0.5)
    warming = hard_negative(problem, base=shuffled, warmup_passes=2)
    mining = hard_negative(problem, base=shuffled)
    for step in range(-(-2 * len(problem.windows) // problem.batch_size)):
        expected = base.draw(step, scores).ids
        np.testing.assert_array_equal(draw_windows(warming, step, scores, no_measures).ids, expected)
        np.testing.assert_array_equal(draw_windows(mining, step, unseen, no_measures).ids, expected)
    np.testing.assert_allclose(
        mining.probabilities(9, unseen, problem.all_ids), base.probabilities(9, unseen, problem.all_ids)
    )


def test_mining_begins_after_as_many_draws_as_the_warm_up_has() -> None:
    scores = scores_of(UNEVEN.windows, seed=0)
    sampler = hard_negative(UNEVEN, base=FirstWindow, warmup_passes=1.5)
    num_steps = int(np.ceil(1.5 * len(UNEVEN.windows) / UNEVEN.batch_size))
    assert not draw_windows(sampler, num_steps - 1, scores, no_measures).ids.any()
    assert draw_windows(sampler, num_steps, scores, no_measures).ids.any()


@pytest.mark.parametrize(("fraction", "uniform_mix"), [(0.3, 0.0), (0.3, 0.5), (0.8, 0.1)])
def test_hard_windows_are_drawn_at_the_stated_rate(fraction: float, uniform_mix: float) -> None:
    # 40 episodes far longer than the radius, so that suppression almost never finds all hard windows taken.
    problem = Problem(windows=table([30] * 40), batch_size=8, seed=0)
    losses = np.random.default_rng(0).permutation(len(problem.windows))
    scores = scores_with(problem.windows, np.where(problem.all_ids == 0, -1, losses))
    sampler = hard_negative(
        problem, base=FirstWindow, fraction=fraction, uniform_mix=uniform_mix, top_fraction=0.1, dedupe_radius=4
    )
    is_hard = hard_shares(scores, top_fraction=0.1) == 1
    drawn = np.concatenate([draw_windows(sampler, step, scores, no_measures).ids for step in range(1500)])
    expected = fraction * (1 - uniform_mix + uniform_mix * is_hard.mean())
    spread = np.sqrt(expected * (1 - expected) / len(drawn))
    assert abs(is_hard[drawn].mean() - expected) < 4 * spread
    assert is_hard @ sampler.probabilities(9, scores, problem.all_ids) == pytest.approx(expected)


@law
@given(problem=problems(), score_seed=score_seeds)
def test_a_uniform_mix_keeps_every_window_reachable(problem: Problem, score_seed: int) -> None:
    scores = scores_of(problem.windows, seed=score_seed)
    p = hard_negative(problem, base=FirstWindow, fraction=0.5, uniform_mix=0.2).probabilities(
        9, scores, problem.all_ids
    )
    assert (p >= 0.5 * 0.2 / len(problem.windows) - 1e-12).all()


def test_a_uniform_mix_reaches_every_window_in_time() -> None:
    scores = scores_of(UNEVEN.windows, seed=0)
    sampler = hard_negative(UNEVEN, base=FirstWindow, uniform_mix=0.5, top_fraction=0.1)
    drawn = np.concatenate([draw_windows(sampler, step, scores, no_measures).ids for step in range(400)])
    assert set(drawn) == set(range(len(UNEVEN.windows)))
