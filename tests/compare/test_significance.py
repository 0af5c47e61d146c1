"""The statistics hold what they promise, checked by simulating comparisons whose truth is known."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from mobile_vla.compare.data.episode_errors import cluster_interval
from mobile_vla.compare.statistics.estimates import MIN_SEEDS, paired_difference
from mobile_vla.compare.statistics.significance import (
    LEVEL,
    MAX_EXACT_SEEDS,
    POWER,
    detectable_difference,
    flip_p_values,
    holm,
    t_p_values,
)

TRIALS = 10_000
NUM_SAMPLERS = 10


def error(share: float, trials: int = TRIALS) -> float:
    """Return four standard errors: a correct program fails once in sixteen thousand such checks."""
    return 4 * math.sqrt(share * (1 - share) / trials)


def without_effect(num_seeds: int, num_samplers: int = 1, *, noise: str = "normal") -> NDArray[np.float64]:
    """Draw differences [trials, samplers, seeds] of samplers that change nothing and share one baseline."""
    rng = np.random.default_rng(num_seeds)

    def draw(num: int) -> NDArray[np.float64]:
        values = rng.normal(size=(TRIALS, num, num_seeds))
        if noise == "diverging":
            values += 10 * (rng.random(values.shape) < 0.1)
        if noise == "two values":
            values = 0.2 * values + rng.choice([-1.0, 1.0], size=values.shape)
        return values

    return draw(num_samplers) - draw(1)


@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_false_wins_of_one_comparison_are_five_percent(num_seeds: int) -> None:
    differences = without_effect(num_seeds)[:, 0]
    assert abs((t_p_values(differences) < LEVEL).mean() - LEVEL) < error(LEVEL)


@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_false_wins_among_ten_samplers_are_at_most_five_percent(num_seeds: int) -> None:
    p_values = t_p_values(without_effect(num_seeds, NUM_SAMPLERS))
    assert (holm(p_values) < LEVEL).any(-1).mean() < LEVEL + error(LEVEL)
    assert (p_values < LEVEL).any(-1).mean() > 0.2, "without Holm there would be many: the test can fail"


@pytest.mark.parametrize("noise", ["diverging", "two values"])
def test_noise_that_is_not_normal_makes_no_more_false_wins_from_five_seeds_on(noise: str) -> None:
    wins = {
        num: (holm(t_p_values(without_effect(num, NUM_SAMPLERS, noise=noise))) < LEVEL).any(-1).mean()
        for num in (3, MIN_SEEDS, 8)
    }
    assert max(wins[MIN_SEEDS], wins[8]) < LEVEL + error(LEVEL)
    if noise == "two values":
        assert wins[3] > 2 * LEVEL, "which is why fewer seeds are only indicative"


@pytest.mark.parametrize("num_seeds", [3, 5, 8])
@pytest.mark.parametrize("noise", ["normal", "diverging", "two values"])
def test_sign_flip_never_exceeds_its_level(num_seeds: int, noise: str) -> None:
    p_values = flip_p_values(without_effect(num_seeds, noise=noise)[:, 0])
    assert p_values.min() == 2 / 2**num_seeds
    for level in (0.01, 0.05, 0.1, 0.25):
        assert (p_values <= level).mean() < level + error(level)


@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_intervals_hold_the_truth_in_95_of_100(num_seeds: int) -> None:
    rng, trials, truth = np.random.default_rng(num_seeds), 2000, 0.3
    held = 0
    for one, other in rng.normal(size=(trials, 2, num_seeds)):
        low, high = paired_difference(dict(enumerate(one + truth)), dict(enumerate(other))).interval or (0.0, 0.0)
        held += low <= truth <= high
    assert abs(held / trials - 0.95) < error(0.95, trials)


@pytest.mark.parametrize("num_comparisons", [1, 10, 23])
@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_the_detectable_difference_is_found_four_times_in_five(num_seeds: int, num_comparisons: int) -> None:
    size = detectable_difference(2.0, num_pairs=num_seeds, num_comparisons=num_comparisons)
    differences = size + 2.0 * np.random.default_rng(0).normal(size=(TRIALS, num_seeds))
    assert abs((t_p_values(differences) < LEVEL / num_comparisons).mean() - POWER) < error(POWER)


@pytest.mark.parametrize(("num_seeds", "power"), [(3, 0.47), (5, 0.91), (8, 1.0)])
def test_power_for_two_standard_deviations(num_seeds: int, power: float) -> None:
    differences = 2 + np.random.default_rng(1).normal(size=(TRIALS, num_seeds))
    assert (t_p_values(differences) < LEVEL).mean() == pytest.approx(power, abs=0.02)


def test_episodes_resampled_whole_cover_the_truth_and_windows_do_not() -> None:
    """50 val episodes of 30 windows; what is hard about an episode is hard in all its windows."""
    rng, trials, num_episodes, num_windows = np.random.default_rng(0), 400, 50, 30
    held = np.zeros(2)
    for _ in range(trials):
        hard = rng.lognormal(0, 0.6, size=(1, num_episodes, 1)) * rng.lognormal(0, 0.3, size=(2, num_episodes, 1))
        squared = hard * rng.lognormal(0, 0.5, size=(2, num_episodes, num_windows))
        by_episode = cluster_interval(squared.sum(-1)[None], np.full(num_episodes, num_windows))
        by_window = _interval_over_windows(squared.reshape(2, -1))
        held += [low <= 0 <= high for low, high in (by_episode, by_window)]
    assert abs(held[0] / trials - 0.95) < error(0.95, trials)
    assert held[1] / trials < 0.7


def _interval_over_windows(squared: NDArray[np.float64]) -> tuple[float, float]:
    """Return the large-sample limit of resampling windows: the delta method for independent windows."""
    rmse = np.sqrt(squared.mean(-1))
    influence = squared[0] / (2 * rmse[0]) - squared[1] / (2 * rmse[1])
    half_width = 1.96 * influence.std() / influence.size**0.5
    return rmse[0] - rmse[1] - half_width, rmse[0] - rmse[1] + half_width


DIFFERENCES = st.lists(st.floats(-1e3, 1e3).map(lambda value: round(value, 3)), min_size=2, max_size=9)


@given(differences=DIFFERENCES)
def test_sign_flip_counts_all_flips(differences: list[float]) -> None:
    signs = np.array(list(product((-1, 1), repeat=len(differences))))
    totals = np.abs(signs @ differences)
    expected = (totals >= abs(sum(differences)) - 1e-9).mean()
    assert flip_p_values(differences) == pytest.approx(expected)


def test_many_seeds_are_flipped_at_random_and_agree_with_all_flips() -> None:
    differences = np.random.default_rng(2).normal(0.3, 1, size=MAX_EXACT_SEEDS)
    exact = float(flip_p_values(differences))
    # One more seed without a difference changes no total, so both must give the same p.
    drawn = float(flip_p_values([*differences, 0.0]))
    assert drawn == pytest.approx(exact, abs=0.006)
    assert drawn == float(flip_p_values([*differences, 0.0]))
    assert flip_p_values([1.0] * 40) > 0


@given(differences=DIFFERENCES)
def test_t_p_is_scipys(differences: list[float]) -> None:
    if np.std(differences) > 1e-6 * (1 + np.abs(differences).max()):
        assert t_p_values(differences) == pytest.approx(ttest_1samp(differences, 0)[1], rel=1e-6)


def test_equal_runs_are_no_difference_and_a_constant_one_proves_no_more_than_its_signs() -> None:
    assert t_p_values([0.0, 0.0, 0.0]) == 1
    assert flip_p_values([0.0, 0.0, 0.0]) == 1
    assert t_p_values([0.3 - 0.2, 0.1, 0.7 - 0.6, 0.1, 0.1]) == 2 / 2**5


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99])
def test_false_wins_in_rates_of_few_drives_are_at_most_five_percent(rate: float) -> None:
    """Rates of 100 drives are coarse: near 1, all five seeds often differ by the same."""
    rng = np.random.default_rng(0)
    rates = rng.binomial(100, rate, size=(TRIALS, NUM_SAMPLERS + 1, 5)) / 100
    p_values = t_p_values(rates[:, 1:] - rates[:, :1])
    assert (holm(p_values) < LEVEL).any(-1).mean() < LEVEL + error(LEVEL)
    assert (p_values[:, 0] < LEVEL).mean() < LEVEL + error(LEVEL)


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(p_values=P_VALUES, num_more=st.none() | st.integers(0, 5), order=st.randoms())
def test_holm_rejects_step_by_step_whatever_the_order(p_values: list[float], num_more: int | None, order) -> None:
    num_tests = None if num_more is None else len(p_values) + num_more
    adjusted = holm(p_values, num_tests=num_tests)
    for level in (0.01, 0.05, 0.5):
        rejected = set()
        for step, index in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[index] * ((num_tests or len(p_values)) - step) >= level:
                break
            rejected.add(p_values[index])
        assert {p for p, one in zip(p_values, adjusted, strict=True) if one < level} == rejected
    positions = list(range(len(p_values)))
    order.shuffle(positions)
    shuffled = holm([p_values[index] for index in positions], num_tests=num_tests)
    assert shuffled.tolist() == [adjusted[index] for index in positions]
    assert all(p <= one <= 1 for p, one in zip(p_values, adjusted, strict=True))


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]).tolist() == []
