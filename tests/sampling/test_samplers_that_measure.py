"""Hold what samplers draw after a look against their exact law, counted out over all candidates there can be."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from tables import FixedMeasures, Problem, score_file, scores_with, table

from mobile_vla.sampling.contract import Sampler, draw_windows
from mobile_vla.sampling.scores import Scores

VALUES = np.array([0.5, 4.0, 1.0, 0.25, 2.0, 2.0, 8.0, 0.0])


def problem(num_windows: int, batch_size: int, *, seed: int = 0) -> Problem:
    return Problem(windows=table([num_windows]), batch_size=batch_size, seed=seed)


def counts_by_step(
    sampler: Sampler, values: NDArray[np.float64], *, num_steps: int, every: int = 1
) -> NDArray[np.float64]:
    """Return how often each window is in the batches of steps ``every`` apart [num_steps, N]."""
    look, scores = FixedMeasures(values), Scores(sampler.windows, smoothing=0.5)
    ids = np.array([draw_windows(sampler, every * i, scores, look).ids for i in range(num_steps)])
    return (ids[:, :, None] == np.arange(len(sampler.windows))).sum(1).astype(float)


def assert_mean(counts: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    """Hold the mean of the rows of ``counts``, which are independent or nearly so, against ``expected``."""
    error = counts.std(0) / np.sqrt(len(counts))
    assert (np.abs(counts.mean(0) - expected) <= 4.5 * error + 1e-9).all()
    assert (error < 0.1 * expected.mean()).all()


def in_proportion(values: NDArray[np.float64], *, num_candidates: int, batch_size: int) -> NDArray[np.float64]:
    """Return the expected counts of gradnorm_is: B g / sum g among the candidates, over all sets of candidates."""
    expected, num_sets = np.zeros(len(values)), 0
    for candidates in map(list, combinations(range(len(values)), min(num_candidates, len(values)))):
        expected[candidates] += batch_size * values[candidates] / values[candidates].sum()
        num_sets += 1
    return expected / num_sets


@pytest.mark.parametrize(("batch_size", "per_draw"), [(1, 3), (2, 3), (4, 2), (3, 4)], ids=str)
def test_gradnorm_is_draws_by_the_norms_of_its_candidates(batch_size: int, per_draw: int) -> None:
    sampler = problem(8, batch_size).sampler(
        f"sampler=gradnorm_is sampler.min_tau=0 sampler.candidates_per_draw={per_draw}"
    )
    expected = in_proportion(VALUES, num_candidates=per_draw * batch_size, batch_size=batch_size)
    assert_mean(counts_by_step(sampler, VALUES, num_steps=3000), expected)


def test_gradnorm_is_draws_a_million_by_their_probabilities_where_all_windows_are_candidates() -> None:
    given = problem(60, 10_000)
    norms = np.random.default_rng(0).exponential(size=60).astype(np.float32)
    sampler, look, scores = (
        given.sampler("sampler=gradnorm_is sampler.min_tau=0"),
        FixedMeasures(norms),
        scores_with(given.windows, norms),
    )
    ids = np.concatenate([draw_windows(sampler, step, scores, look).ids for step in range(100)])
    p = sampler.probabilities(0, scores, given.all_ids)
    np.testing.assert_allclose(p, norms / norms.sum(), rtol=1e-6)
    assert stats.chisquare(np.bincount(ids), p * len(ids)).pvalue > 1e-4


@pytest.mark.parametrize("min_tau", [1.0, 1.4, 1.5, 4.0])
def test_gradnorm_is_draws_by_norm_only_where_that_pays(min_tau: float) -> None:
    given = problem(8, 2)
    sampler = given.sampler(f"sampler=gradnorm_is sampler.min_tau={min_tau}")
    scores, look = Scores(given.windows, smoothing=0.5), FixedMeasures(VALUES)
    taus = []
    for step in range(300):
        seen: list[np.ndarray] = []
        draw = draw_windows(sampler, step, scores, lambda ids, measure: seen.append(ids) or look(ids, measure))  # noqa: B023
        norms = VALUES[seen[0]]
        # Second moments of the gradient: of uniform draws, and of draws by its norm weighted by 1 / (M P).
        taus.append(np.sqrt(np.mean(norms**2) / np.mean(norms) ** 2))
        if taus[-1] <= min_tau:
            np.testing.assert_array_equal(draw.ids, seen[0][:2])
            np.testing.assert_array_equal(draw.weights, 1)
        else:
            np.testing.assert_allclose(draw.weights, norms.mean() / VALUES[draw.ids], rtol=1e-6)
    assert min_tau in (1.0, 4.0) or 0.1 < np.mean(np.array(taus) > min_tau) < 0.9


def kept(values: NDArray[np.float64], *, num_candidates: int, batch_size: int, beta: float) -> NDArray[np.float64]:
    """Return the expected counts of selective_backprop, over all orders in which candidates can come.

    A candidate is kept with probability (share of candidates not above it)^beta; they are gone through, again and
    again, until the batch is full.
    """
    expected, num_orders = np.zeros(len(values)), 0
    for candidates in map(list, permutations(range(len(values)), num_candidates)):
        losses = values[candidates]
        keep = np.array([(losses <= loss).mean() for loss in losses]) ** beta
        num_orders += 1
        has_kept = np.zeros(batch_size)  # probability of having kept 0 .. B-1 so far
        has_kept[0] = 1
        while has_kept.sum() > 1e-6:
            for window, probability in zip(candidates, keep, strict=True):
                expected[window] += probability * has_kept.sum()
                has_kept[1:] = (1 - probability) * has_kept[1:] + probability * has_kept[:-1]
                has_kept[0] *= 1 - probability
    return expected / num_orders


@pytest.mark.parametrize(
    ("num_windows", "batch_size", "per_draw", "beta"),
    [
        (6, 1, 3, 2.0),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(8, 2, 2, 1.0), (6, 2, 3, 2.0), (5, 5, 1, 0.5)]),
    ],
    ids=str,
)
def test_selective_backprop_keeps_by_the_rank_of_the_loss(
    num_windows: int, batch_size: int, per_draw: int, beta: float
) -> None:
    variant = f"sampler=selective_backprop sampler.beta={beta} sampler.candidates_per_draw={per_draw}"
    sampler = problem(num_windows, batch_size).sampler(variant)
    values = VALUES[:num_windows]
    expected = kept(values, num_candidates=per_draw * batch_size, batch_size=batch_size, beta=beta)
    # Of each pass the first step alone, as a pass is dealt out without replacement.
    num_per_pass, rest = divmod(num_windows, per_draw * batch_size)
    assert rest == 0
    assert_mean(counts_by_step(sampler, values, num_steps=3000, every=num_per_pass), expected)


def test_selective_backprop_draws_by_its_probabilities_where_candidates_are_many() -> None:
    given = problem(512, 512)
    losses = np.random.default_rng(0).exponential(size=512)
    sampler = given.sampler("sampler=selective_backprop")
    p = sampler.probabilities(0, scores_with(given.windows, losses), given.all_ids)
    rank = stats.rankdata(losses) / 512
    np.testing.assert_allclose(p, rank**2 / (rank**2).sum())
    drawn = counts_by_step(sampler, losses, num_steps=300).sum(0)
    bins = np.minimum((rank * 10).astype(int), 9)
    np.testing.assert_allclose(np.bincount(bins, drawn) / drawn.sum(), np.bincount(bins, p), atol=0.005)


def best(values: NDArray[np.float64], *, num_candidates: int, batch_size: int) -> NDArray[np.float64]:
    """Return the expected counts of rho: the B highest of the candidates, of equal ones any, over all sets of them."""
    expected, num_sets = np.zeros(len(values)), 0
    for candidates in map(list, combinations(range(len(values)), min(num_candidates, len(values)))):
        found = values[candidates]
        is_above = np.array([(found > value).sum() for value in found])
        num_equal = np.array([(found == value).sum() for value in found])
        expected[candidates] += np.clip((batch_size - is_above) / num_equal, 0, 1)
        num_sets += 1
    return expected / num_sets


@pytest.mark.parametrize(("batch_size", "keep"), [(1, 0.3), (2, 0.5), (2, 0.3), (3, 0.4), (2, 0.1), (4, 1.0)], ids=str)
def test_rho_draws_the_highest_reducible_losses_of_its_candidates(batch_size: int, keep: float) -> None:
    given = problem(8, batch_size)
    irreducible = np.array([0.5, 1.0, 0.0, 0.0, 1.0, 2.0, 6.0, 0.5])
    path = score_file(given.windows, irreducible.astype(np.float32))
    sampler = given.sampler(f"sampler=rho sampler.keep={keep} sampler.file={path}")
    num_candidates = int(np.ceil(batch_size / keep))
    expected = best(VALUES - irreducible, num_candidates=num_candidates, batch_size=batch_size)
    assert_mean(counts_by_step(sampler, VALUES, num_steps=3000), expected)
    p = sampler.probabilities(0, scores_with(given.windows, VALUES), given.all_ids)
    # Ties apart, that probabilities take ranks for: exact.
    values = VALUES - irreducible
    is_alone = np.array([(values == value).sum() == 1 for value in values])
    np.testing.assert_allclose(p[is_alone], expected[is_alone] / batch_size, atol=1e-12)
    assert p.sum() == pytest.approx(1)


def test_rho_repeats_the_best_first_where_the_batch_is_larger_than_the_table() -> None:
    given = problem(3, 8)
    path = score_file(given.windows, np.zeros(3, np.float32))
    sampler = given.sampler(f"sampler=rho sampler.file={path}")
    losses = np.array([1.0, 3.0, 2.0])
    assert sampler.no_effect_reason() is None
    assert np.bincount(
        draw_windows(sampler, 0, scores_with(given.windows, losses), FixedMeasures(losses)).ids
    ).tolist() == [2, 3, 3]
    p = sampler.probabilities(0, scores_with(given.windows, losses), given.all_ids)
    np.testing.assert_allclose(p, np.array([2, 3, 3]) / 8)


@pytest.mark.parametrize("variant", ["gradnorm_is sampler.min_tau=0", "selective_backprop", "rho sampler.file=FILE"])
def test_windows_not_seen_count_as_average_ones_whatever_is_asked_about(variant: str) -> None:
    given = problem(8, 2)
    losses = np.where(np.arange(8) == 3, np.nan, VALUES)
    sampler, scores = given.sampler(f"sampler={variant}"), scores_with(given.windows, losses)
    filled = scores_with(given.windows, np.where(np.isnan(losses), np.nanmean(losses), losses))
    p = sampler.probabilities(0, scores, given.all_ids)
    np.testing.assert_allclose(p, sampler.probabilities(0, filled, given.all_ids), rtol=1e-6)
    np.testing.assert_array_equal(sampler.probabilities(0, scores, np.array([3])), p[3:4])
