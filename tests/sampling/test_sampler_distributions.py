"""Hold a million draws of every sampler against the probabilities it states, and those against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from scipy import stats
from tables import (
    UNEVEN,
    VARIANTS,
    FixedMeasures,
    Problem,
    draw_of,
    each_variant,
    law,
    no_measures,
    problems,
    score_file,
    scores_of,
    scores_with,
    table,
)
from tiny_runs import every

from mobile_vla.sampling.contract import Sampler, draw_windows
from mobile_vla.sampling.scores import Scores

AFTER_WARM_UP = 1000

MINED = "hard_negative"
"""Hard picks of one batch differ, so that a batch must be small beside the hard windows."""

APPROXIMATE = ("gradnorm_is", "selective_backprop", "rho")
"""What looks is held against its own law in test_samplers_that_look.py."""

SUPPRESSING = {"sampler=hard_negative", "sampler=permuted_scores sampler@sampler.base=hard_negative"}
"""Their hard picks keep their distance inside a batch, which ``probabilities`` leaves out by contract."""

QUEUES = ("sequential", "stratified", "phase_balanced", "loss_weighted", "mixture", "replacement=false")
"""Their shares are exact after every pass over a queue: a tenth of the draws tells as much."""

WITHOUT_REPLACEMENT = ("sampler=sequential", "sampler=shuffled")


def is_exact(variant: str) -> bool:
    has_approximate_draws = any(name in variant for name in APPROXIMATE) and "loss_weighted" not in variant
    return not has_approximate_draws and variant not in SUPPRESSING


def visits(sampler: Sampler, scores: Scores, *, first: int, num_steps: int) -> NDArray[np.int64]:
    ids = np.concatenate(
        [draw_windows(sampler, step, scores, no_measures).ids for step in range(first, first + num_steps)]
    )
    return np.bincount(ids, minlength=len(sampler.windows))


def assert_drawn_by(p: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
    assert counts[p == 0].sum() == 0
    assert stats.chisquare(counts[p > 0], p[p > 0] / p.sum() * counts.sum()).pvalue > 1e-4


@pytest.mark.parametrize("variant", each_variant([v for v in VARIANTS if is_exact(v)]))
def test_a_million_draws_agree_with_the_probabilities(variant: str) -> None:
    problem, num_draws = Problem(windows=UNEVEN.windows, batch_size=5000, seed=0), 1_000_000
    if MINED in variant and "loss_weighted" not in variant:
        lengths = np.random.default_rng(0).integers(20, 60, 30).tolist()
        problem, num_draws = Problem(windows=table(lengths, ["a", "b", "b"]), batch_size=50, seed=0), 100_000
        variant += " sampler.dedupe_radius=0"
    elif variant in WITHOUT_REPLACEMENT or any(name in variant for name in QUEUES):
        num_draws = 100_000
    sampler, scores = problem.sampler(variant), scores_of(problem.windows, seed=3)
    counts = visits(sampler, scores, first=AFTER_WARM_UP, num_steps=num_draws // problem.batch_size)
    assert_drawn_by(sampler.probabilities(AFTER_WARM_UP, scores, problem.all_ids), counts)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if "warmup_passes" in v])
def test_the_probabilities_of_a_warm_up_are_uniform_where_it_is_a_pass(variant: str) -> None:
    longer = variant.replace("warmup_passes=0", "warmup_passes=3")
    if "sequential" in longer or "base=prioritized" in longer:
        return
    p = UNEVEN.sampler(longer).probabilities(20, scores_of(UNEVEN.windows, seed=0), UNEVEN.all_ids)
    np.testing.assert_allclose(p, 1 / len(p))


def losses_of(problem: Problem) -> NDArray[np.float64]:
    """Return losses with ties, zeros and windows not seen (NaN)."""
    random = np.random.default_rng(5)
    losses = random.integers(0, 6, len(problem.windows)).astype(float)
    return np.where(random.random(len(losses)) < 0.2, np.nan, losses)


def shared_among_seen(weight: NDArray[np.float64], losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p by definition: 1/N for windows not seen, and what is left in proportion to ``weight``."""
    is_seen = ~np.isnan(losses)
    weight = np.where(is_seen, weight, 0)
    return np.where(is_seen, is_seen.mean() * weight / weight.sum(), 1 / len(losses))


def stated(variant: str, losses: NDArray[np.float64], *, step: int = AFTER_WARM_UP) -> NDArray[np.float64]:
    return UNEVEN.sampler(variant).probabilities(step, scores_with(UNEVEN.windows, losses), UNEVEN.all_ids)


def test_prioritized_by_loss_follows_its_definition() -> None:
    losses, num_windows = losses_of(UNEVEN), len(UNEVEN.windows)
    expected = 0.75 * shared_among_seen((losses + 1e-6) ** 0.6, losses) + 0.25 / num_windows
    np.testing.assert_allclose(stated("sampler=prioritized sampler.uniform_mix=0.25", losses), expected, rtol=1e-5)


def test_prioritized_by_rank_follows_its_definition_and_equal_losses_share_their_ranks() -> None:
    losses, num_windows = losses_of(UNEVEN), len(UNEVEN.windows)
    seen = np.flatnonzero(~np.isnan(losses))
    weight = np.zeros(num_windows)
    weight[seen[np.argsort(-losses[seen])]] = np.arange(1, len(seen) + 1) ** -0.7
    for loss in np.unique(losses[seen]):
        weight[losses == loss] = weight[losses == loss].mean()
    expected = 0.75 * shared_among_seen(weight, losses) + 0.25 / num_windows
    found = stated("sampler=prioritized sampler.by=rank sampler.alpha=0.7 sampler.uniform_mix=0.25", losses)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_lap_follows_its_definition() -> None:
    losses = losses_of(UNEVEN)
    expected = shared_among_seen(np.maximum((losses / 2) ** 0.4, 1), losses)
    np.testing.assert_allclose(stated("sampler=lap sampler.threshold=2", losses), expected, rtol=1e-5)


@pytest.mark.parametrize("step", [0, 250, 749, 750, 2000])
def test_a_curriculum_opens_the_easiest_share_in_line_with_the_steps(step: int) -> None:
    losses, num_windows = losses_of(UNEVEN), len(UNEVEN.windows)
    num_open = round(min(0.2 + 0.8 * step / 750, 1) * num_windows)
    difficulty = np.where(np.isnan(losses), -1, losses)
    ordered = np.sort(difficulty)[:num_open].tolist()
    share = np.array([ordered.count(loss) / (difficulty == loss).sum() for loss in difficulty])
    np.testing.assert_allclose(stated("sampler=curriculum", losses, step=step), share / num_open, atol=1e-12)


@pytest.mark.parametrize("order", ["order=random", "order=file sampler.file=FILE"])
def test_the_order_of_a_given_curriculum_does_not_follow_this_runs_losses(order: str) -> None:
    sampler, losses = UNEVEN.sampler(f"sampler=curriculum sampler.{order}"), losses_of(UNEVEN)
    p = [sampler.probabilities(100, scores_with(UNEVEN.windows, x), UNEVEN.all_ids) for x in (losses, -losses)]
    np.testing.assert_array_equal(p[0], p[1])
    if "file" in order:
        assert UNEVEN.file_scores[p[0] > 0].max() <= UNEVEN.file_scores[p[0] == 0].min()
    # What is open stays open.
    later = sampler.probabilities(300, scores_with(UNEVEN.windows, losses), UNEVEN.all_ids)
    assert (later[p[0] > 0] > 0).all()


def test_static_scores_follow_their_file() -> None:
    weight = UNEVEN.file_scores.astype(float) ** 2
    expected = 0.7 * weight / weight.sum() + 0.3 / len(weight)
    variant = "sampler=static_scores sampler.file=FILE sampler.power=2 sampler.uniform_mix=0.3"
    np.testing.assert_allclose(stated(variant, losses_of(UNEVEN)), expected, rtol=1e-9)


def test_a_power_of_large_scores_leaves_shares_that_sum_to_one() -> None:
    scores = np.where(UNEVEN.all_ids < 2, 3e38, 1e30).astype(np.float32)
    variant = f"sampler=static_scores sampler.file={score_file(UNEVEN.windows, scores)} sampler.power=20"
    p = stated(f"{variant} sampler.uniform_mix=0", losses_of(UNEVEN))
    np.testing.assert_allclose(p, np.where(UNEVEN.all_ids < 2, 0.5, 0), atol=1e-12)


def test_a_length_weight_is_the_power_of_the_episodes_number_of_windows() -> None:
    windows = UNEVEN.windows
    length = np.array([(windows.episode == episode).sum() for episode in windows.episode], float)
    for power in (-1, 0.5, 2):
        found = stated(f"sampler=length_weighted sampler.power={power}", losses_of(UNEVEN))
        np.testing.assert_allclose(found, length**power / (length**power).sum(), rtol=1e-9)


@pytest.mark.parametrize("variant", WITHOUT_REPLACEMENT)
@law
@given(problem=problems())
def test_without_replacement_no_window_comes_twice_before_every_window_came_once(
    variant: str, problem: Problem
) -> None:
    sampler, scores = problem.sampler(variant), scores_of(problem.windows, seed=0)
    seen = np.zeros(len(problem.windows), int)
    for step in range(12):
        seen += np.bincount(draw_windows(sampler, step, scores, no_measures).ids, minlength=len(seen))
        assert seen.max() - seen.min() <= 1


def test_with_replacement_windows_repeat_and_a_third_is_missed() -> None:
    problem = Problem(windows=table([1000]), batch_size=1000, seed=0)
    sampler, scores = problem.sampler("sampler=shuffled sampler.replacement=true"), scores_of(problem.windows, seed=0)
    assert len(np.unique(draw_windows(sampler, 0, scores, no_measures).ids)) == pytest.approx(632, abs=40)


def test_sequential_reads_the_table_in_order_and_begins_again() -> None:
    problem = Problem(windows=table([5]), batch_size=3, seed=0)
    sampler, scores = problem.sampler("sampler=sequential"), scores_of(problem.windows, seed=0)
    drawn = [draw_windows(sampler, step, scores, no_measures).ids.tolist() for step in range(3)]
    assert drawn == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]


def test_uniform_episode_weight_draws_episodes_alike_and_windows_weight_draws_windows_alike() -> None:
    windows, losses = UNEVEN.windows, losses_of(UNEVEN)
    lengths = np.bincount(windows.episode)
    for weight, expected in (("uniform", np.full(len(lengths), 1 / len(lengths))), ("windows", lengths / len(windows))):
        p = stated(f"sampler=random_temporal sampler.episode_weight={weight}", losses)
        np.testing.assert_allclose(np.bincount(windows.episode, weights=p), expected)


@law
@given(problem=problems())
def test_random_temporal_without_replacement_takes_each_episode_once_a_pass(problem: Problem) -> None:
    sampler = problem.sampler("sampler=random_temporal sampler.replacement=false")
    scores, episodes = scores_of(problem.windows, seed=0), np.unique(problem.windows.episode)
    drawn = np.concatenate(
        [problem.windows.episode[draw_windows(sampler, step, scores, no_measures).ids] for step in range(8)]
    )
    for first in range(0, len(drawn) - len(episodes) + 1, len(episodes)):
        assert set(drawn[first : first + len(episodes)]) == set(episodes)


BASES = (
    "prioritized",
    "prioritized sampler.base.by=rank",
    "lap",
    "hard_negative",
    "stratified",
    "group_dro sampler.base.file=FILE",
    "gradnorm_is",
    "curriculum",
    "rho sampler.base.file=FILE",
)


@pytest.mark.parametrize("base", every(3, BASES))
def test_permuted_scores_have_the_probabilities_of_their_base_on_other_windows(base: str) -> None:
    losses = np.random.default_rng(2).exponential(size=len(UNEVEN.windows))
    placebo = stated(f"sampler=permuted_scores sampler@sampler.base={base}", losses, step=100)
    genuine = stated(f"sampler={base.replace('.base.', '.')}", losses, step=100)
    np.testing.assert_allclose(np.sort(placebo), np.sort(genuine), rtol=1e-9)
    assert abs(np.corrcoef(placebo, genuine)[0, 1]) < 0.5


@pytest.mark.parametrize("base", every(3, BASES))
def test_permuted_scores_draw_one_fixed_window_for_each_that_their_base_draws(base: str) -> None:
    scores = scores_with(UNEVEN.windows, np.random.default_rng(2).exponential(size=len(UNEVEN.windows)))
    sampler = UNEVEN.sampler(f"sampler=permuted_scores sampler@sampler.base={base}")
    genuine = UNEVEN.sampler(f"sampler={base.replace('.base.', '.')}", purpose="sampler/base")
    measures, taken_by = FixedMeasures(scores.loss), dict[int, int]()
    for step in range(100, 200):
        draw, expected = draw_windows(sampler, step, scores, measures), draw_windows(genuine, step, scores, measures)
        np.testing.assert_array_equal(draw.weights, expected.weights)
        for window, place in zip(draw.ids.tolist(), expected.ids.tolist(), strict=True):
            assert taken_by.setdefault(place, window) == window
    assert len(set(taken_by.values())) == len(taken_by) >= UNEVEN.batch_size
    places = np.array(list(taken_by.items()))
    np.testing.assert_allclose(
        sampler.probabilities(100, scores, places[:, 1]), genuine.probabilities(100, scores, places[:, 0])
    )


def test_the_parts_of_a_mixture_are_exact_in_every_batch() -> None:
    problem = Problem(windows=UNEVEN.windows, batch_size=10, seed=0)
    sampler, scores = problem.sampler("sampler=mixture sampler@sampler.samplers.first=sequential"), losses_of(problem)
    for step in range(20):
        ids = draw_of(problem, sampler, step, scores_with(problem.windows, scores)).ids
        np.testing.assert_array_equal(ids[:5], np.arange(5 * step, 5 * step + 5) % 60)
        assert set(problem.windows.scenario[ids[5:]]) == {0, 1, 2}


@pytest.mark.parametrize(("weight", "batch_size", "size"), [(0.5, 9, 5), (0.1, 10, 2), (1.5, 8, 6), (0.2, 32, 9)])
def test_a_part_of_a_mixture_is_its_weights_share_rounded(weight: float, batch_size: int, size: int) -> None:
    problem = Problem(windows=UNEVEN.windows, batch_size=batch_size, seed=0)
    variant = "sampler=mixture sampler@sampler.samplers.first=sequential sampler@sampler.samplers.second=shuffled"
    ids = draw_of(
        problem,
        problem.sampler(f"{variant} sampler.weights.first={weight}"),
        0,
        scores_of(problem.windows, seed=0),
    ).ids
    np.testing.assert_array_equal(ids[:size], np.arange(size))
    assert ids[size] != size


def test_the_parts_of_a_mixture_are_drawn_apart() -> None:
    variant = "sampler=mixture sampler@sampler.samplers.second=shuffled"
    problem = Problem(windows=UNEVEN.windows, batch_size=120, seed=0)
    ids = draw_of(problem, problem.sampler(variant), 0, scores_of(problem.windows, seed=0)).ids
    np.testing.assert_array_equal(np.sort(ids[:60]), np.sort(ids[60:]))
    assert (ids[:60] == ids[60:]).sum() < 8
