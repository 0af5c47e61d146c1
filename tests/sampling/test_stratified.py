"""Check the quotas of stratified batches: exact in every batch, exact over time, as tau says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import UNEVEN, Problem, law, no_measures, problems, scores_of, table

from mobile_vla.errors import ConfigError
from mobile_vla.sampling.contract import draw_windows
from mobile_vla.sampling.parts.quotas import QuotaSchedule, at_least_one_each, tempered_shares
from mobile_vla.sampling.strategies.stratified import Stratified
from mobile_vla.streams import Stream

taus = st.sampled_from([1.0, 1.5, 2.0, 10.0, float("inf")])


@st.composite
def shares_and_batch_size(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    counts = np.array(draw(st.lists(st.integers(1, 500), min_size=1, max_size=12)))
    batch_size = draw(st.integers(len(counts), 64))
    return at_least_one_each(tempered_shares(counts, tau=draw(taus)), batch_size=batch_size), batch_size


def stratified(problem: Problem, *, tau: float) -> Stratified:
    stream = Stream(problem.seed, "sampler")
    return Stratified(windows=problem.windows, batch_size=problem.batch_size, stream=stream, tau=tau)


@law
@given(given_=shares_and_batch_size())
def test_every_batch_is_within_one_window_of_its_quota_and_totals_stay_near_theirs(given_) -> None:
    shares, batch_size = given_
    schedule, exact, total = QuotaSchedule(shares, batch_size=batch_size), shares * batch_size, np.zeros(len(shares))
    for step in range(150):
        drawn, counts = schedule.at(step)
        np.testing.assert_array_equal(drawn, total)
        assert counts.sum() == batch_size
        assert (counts >= np.floor(exact + 1e-6)).all()
        assert (counts <= np.ceil(exact - 1e-6)).all()
        total = total + counts
        assert np.abs(total - (step + 1) * exact).max() < 2


@law
@given(given_=shares_and_batch_size(), order=st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_the_schedule_answers_in_any_order(given_, order: list[int]) -> None:
    shares, batch_size = given_
    used = QuotaSchedule(shares, batch_size=batch_size)
    for step in order:
        fresh = QuotaSchedule(shares, batch_size=batch_size)
        np.testing.assert_array_equal(used.at(step), fresh.at(step))


@law
@given(counts=st.lists(st.integers(1, 500), min_size=1, max_size=12).map(np.array), tau=taus, spare=st.integers(0, 40))
def test_raised_shares_hold_one_window_a_batch_and_the_others_keep_their_proportions(counts, tau, spare) -> None:
    natural, floor = tempered_shares(counts, tau=tau), 1 / (len(counts) + spare)
    shares = at_least_one_each(natural, batch_size=len(counts) + spare)
    assert shares.sum() == pytest.approx(1)
    assert (shares >= floor - 1e-9).all()
    is_free = shares > floor + 1e-6
    ratio = shares[is_free] / natural[is_free]
    np.testing.assert_allclose(ratio, ratio[:1].repeat(len(ratio)))
    if is_free.any():
        assert (natural[~is_free] * ratio[0] <= floor + 1e-6).all()


def test_tau_runs_from_natural_to_equal_shares() -> None:
    counts = np.array([10, 90])
    np.testing.assert_allclose(tempered_shares(counts, tau=1), [0.1, 0.9])
    np.testing.assert_allclose(tempered_shares(counts, tau=2), [0.25, 0.75])
    np.testing.assert_allclose(tempered_shares(counts, tau=float("inf")), [0.5, 0.5])


@law
@given(problem=problems(), tau=taus)
def test_every_scenario_is_in_every_batch(problem: Problem, tau: float) -> None:
    sampler, scores = stratified(problem, tau=tau), scores_of(problem.windows, seed=0)
    for step in range(10):
        scenarios = problem.windows.scenario[draw_windows(sampler, step, scores, no_measures).ids]
        assert set(scenarios) == set(problem.windows.scenario)


@law
@given(problem=problems(), tau=taus)
def test_no_window_of_a_scenario_comes_twice_before_all_of_them_came_once(problem: Problem, tau: float) -> None:
    windows, scores = problem.windows, scores_of(problem.windows, seed=0)
    sampler, seen = stratified(problem, tau=tau), np.zeros(len(windows), int)
    for step in range(12):
        seen += np.bincount(draw_windows(sampler, step, scores, no_measures).ids, minlength=len(seen))
        for scenario in np.unique(windows.scenario):
            assert np.ptp(seen[windows.scenario == scenario]) <= 1


def test_scenario_shares_of_the_draws_are_the_tempered_ones() -> None:
    windows, scores = UNEVEN.windows, scores_of(UNEVEN.windows, seed=0)
    sampler = stratified(UNEVEN, tau=2)
    weight = np.sqrt(np.bincount(windows.scenario))
    drawn = np.concatenate(
        [windows.scenario[draw_windows(sampler, step, scores, no_measures).ids] for step in range(400)]
    )
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), weight / weight.sum(), atol=2 / len(drawn))
    np.testing.assert_allclose(
        np.bincount(windows.scenario, weights=sampler.probabilities(0, scores, UNEVEN.all_ids)), weight / weight.sum()
    )


def test_scenarios_of_equal_size_are_shuffled_apart() -> None:
    problem = Problem(windows=table([16, 16], ["near", "far"]), batch_size=32, seed=0)
    ids = draw_windows(stratified(problem, tau=1), 0, scores_of(problem.windows, seed=0), no_measures).ids
    first, second = (ids[problem.windows.episode[ids] == episode] % 16 for episode in (0, 1))
    assert sorted(first) == sorted(second)
    assert first.tolist() != second.tolist()


def test_a_batch_smaller_than_the_number_of_scenarios_is_refused() -> None:
    problem = Problem(windows=table([4] * 5, "abcde"), batch_size=4, seed=0)
    with pytest.raises(ConfigError, match=r"trainer.batch_size=4 .* 5 scenarios.*Use trainer.batch_size=5 or more"):
        stratified(problem, tau=2)
