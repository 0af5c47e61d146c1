"""Check every figure of a sampler's diagnostics against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tables import UNEVEN, Problem, draw_of, law, problems, scores_of

from mobile_vla.sampling.diagnostics import DrawStatistics
from mobile_vla.sampling.scores import Scores
from mobile_vla.schema import NUM_PHASES, Draw, WindowTable


def random_draws(problem: Problem, num_draws: int) -> list[Draw]:
    random = np.random.default_rng(problem.seed)
    return [
        Draw(
            ids=random.integers(0, len(problem.windows), problem.batch_size),
            weights=random.uniform(0.1, 3, problem.batch_size).astype(np.float32),
        )
        for _ in range(num_draws)
    ]


def follow(statistics: DrawStatistics, draws: list[Draw], scores: Scores, *, first_step: int = 0) -> None:
    for step, draw in enumerate(draws, start=first_step):
        statistics.add(step, draw, scores)
        scores.update(step, draw.ids, np.ones(len(draw.ids), np.float32))


def evenness(labels: list[int], *, num_groups: int) -> float:
    if num_groups == 1:
        return 1.0
    shares = [labels.count(label) / len(labels) for label in set(labels)]
    return sum(-share * math.log(share, num_groups) for share in shares)


def repeats_in_pass(draws: list[Draw], *, num_windows: int) -> float:
    """Return the share of the draws whose window came before in the pass that its step begins in."""
    drawn, current, num_repeats, num_draws = set[int](), 0, 0, 0
    for draw in draws:
        if num_draws // num_windows > current:
            drawn, current = set[int](), num_draws // num_windows
        for window in draw.ids.tolist():
            num_repeats += window in drawn
            drawn.add(window)
        num_draws += len(draw.ids)
    return num_repeats / num_draws


def counted_by_hand(windows: WindowTable, draws: list[Draw], p: np.ndarray) -> dict[str, float]:
    ids = [int(i) for draw in draws for i in draw.ids]
    weights = [float(w) for draw in draws for w in draw.weights]
    visits = [ids.count(i) for i in range(len(windows))]
    last_seen, ages = {}, []
    for step, draw in enumerate(draws):
        ages += [step - last_seen[int(i)] for i in draw.ids if int(i) in last_seen]
        last_seen |= {int(i): step for i in draw.ids}
    num_episodes = len(set(windows.episode.tolist()))
    expected = {
        "coverage": len(set(ids)) / len(windows),
        "never_drawn": 1 - len(set(ids)) / len(windows),
        "repeats_in_pass": repeats_in_pass(draws, num_windows=len(windows)),
        "episode_entropy": evenness(windows.episode[ids].tolist(), num_groups=num_episodes),
        "episode_entropy_batch": np.mean(
            [
                evenness(windows.episode[draw.ids].tolist(), num_groups=min(len(draw.ids), num_episodes))
                for draw in draws
            ]
        ),
        "duplicates": np.mean([1 - len(set(draw.ids)) / len(draw.ids) for draw in draws]),
        "episodes_per_batch": np.mean([len({windows.episode[i] for i in draw.ids}) for draw in draws]),
        "scenarios_per_batch": np.mean([len({windows.scenario[i] for i in draw.ids}) for draw in draws]),
        "effective_sample_size": sum(visits) ** 2 / sum(v * v for v in visits) / len(windows),
        "padded": np.mean([windows.pad_start[i] > 0 or windows.pad_end[i] > 0 for i in ids]),
        "repeats_max": max(visits),
        "weight_max": max(weights),
        "weight_effective": sum(weights) ** 2 / sum(w * w for w in weights) / len(weights),
    }
    if ages:
        expected["score_age"] = np.mean(ages)
    for s, name in enumerate(windows.scenario_names):
        expected[f"share/{name}"] = np.mean([windows.scenario[i] == s for i in ids])
        expected[f"target/{name}"] = sum(p[i] for i in range(len(windows)) if windows.scenario[i] == s)
    shares = [expected[f"share/{name}"] for name in windows.scenario_names]
    for other, wanted in (
        ("target", [expected[f"target/{name}"] for name in windows.scenario_names]),
        ("natural", [np.mean(windows.scenario == s) for s in range(len(shares))]),
    ):
        excess = [max(share - want, 0) for share, want in zip(shares, wanted, strict=True)]
        expected[f"scenario_divergence/{other}"] = sum(excess)
    for phase in range(NUM_PHASES):
        low, high = phase / NUM_PHASES, (phase + 1) / NUM_PHASES
        progress = [windows.progress[i] / 1000 for i in ids]
        expected[f"phase_{phase}"] = np.mean([low <= x < high or (x == 1 and high == 1) for x in progress])
    natural = np.array([np.mean(windows.phase == phase) for phase in range(NUM_PHASES)])
    counts = np.array([expected[f"phase_{phase}"] for phase in range(NUM_PHASES)]) * len(ids)
    if (present := natural > 0).sum() > 1:
        statistic = stats.chisquare(counts[present], natural[present] * len(ids)).statistic
        expected["chi_squared/phase"] = statistic / (present.sum() - 1)
    return {f"sampler/{name}": float(value) for name, value in expected.items()}


@law
@given(problem=problems(), num_draws=st.integers(1, 5))
def test_every_figure_is_what_counting_by_hand_gives(problem: Problem, num_draws: int) -> None:
    windows, draws = problem.windows, random_draws(problem, num_draws)
    p = np.random.default_rng(1).dirichlet(np.ones(len(windows)))
    statistics = DrawStatistics(windows)
    follow(statistics, draws, Scores(windows, smoothing=0.5))
    assert statistics.metrics(p) == pytest.approx(counted_by_hand(windows, draws, p), abs=1e-9)


@law
@given(problem=problems(), num_before=st.integers(0, 4))
def test_a_resumed_run_reports_the_whole_run(problem: Problem, num_before: int) -> None:
    draws, p = random_draws(problem, 6), np.full(len(problem.windows), 1 / len(problem.windows))
    whole, first, second = (DrawStatistics(problem.windows) for _ in range(3))
    follow(whole, draws, Scores(problem.windows, smoothing=0.5))
    scores = Scores(problem.windows, smoothing=0.5)
    follow(first, draws[:num_before], scores)
    second.load(first.state())
    assert second.metrics(p) == first.metrics(p)
    follow(second, draws[num_before:], scores, first_step=num_before)
    assert second.metrics(p) == whole.metrics(p)


def test_nothing_is_claimed_before_the_first_draw() -> None:
    sampler = UNEVEN.sampler("sampler=shuffled")
    p = sampler.probabilities(0, scores_of(UNEVEN.windows, seed=0), UNEVEN.all_ids)
    assert DrawStatistics(UNEVEN.windows).metrics(p) == {}


def test_a_saved_state_does_not_move_with_the_run() -> None:
    statistics, scores = DrawStatistics(UNEVEN.windows), scores_of(UNEVEN.windows, seed=0)
    state = statistics.state()
    follow(statistics, random_draws(UNEVEN, 2), scores)
    assert not any(array.any() for array in state.values())


def test_weights_that_are_all_zero_leave_their_effective_number_out() -> None:
    statistics = DrawStatistics(UNEVEN.windows)
    statistics.add(0, Draw(ids=np.arange(3), weights=np.zeros(3, np.float32)), scores_of(UNEVEN.windows, seed=0))
    figures = statistics.metrics(np.full(len(UNEVEN.windows), 1 / len(UNEVEN.windows)))
    assert figures["sampler/weight_max"] == 0
    assert "sampler/weight_effective" not in figures


def test_draws_that_follow_the_losses_correlate_with_them_by_rank() -> None:
    windows = UNEVEN.windows
    losses = np.random.default_rng(0).exponential(size=len(windows)).astype(np.float32)
    scores, statistics = Scores(windows, smoothing=0.5), DrawStatistics(windows)
    assert statistics.score_metrics(scores) == {}
    scores.update(0, UNEVEN.all_ids[5:], losses[5:])
    repeats = np.repeat(UNEVEN.all_ids, np.arange(len(windows)) % 7)
    statistics.add(1, Draw.unweighted(repeats), scores)
    expected = stats.spearmanr(np.arange(len(windows))[5:] % 7, losses[5:]).statistic
    assert statistics.score_metrics(scores) == {"sampler/score_rank_correlation": pytest.approx(expected)}


def test_passes_in_order_repeat_nothing_and_uniform_draws_do() -> None:
    windows = UNEVEN.windows
    num_steps = 4 * len(windows) // UNEVEN.batch_size

    def figures(variant: str) -> dict[str, float]:
        sampler, statistics = UNEVEN.sampler(variant), DrawStatistics(windows)
        scores = Scores(windows, smoothing=0.5)
        follow(statistics, [draw_of(UNEVEN, sampler, step, scores) for step in range(num_steps)], scores)
        return statistics.metrics(sampler.probabilities(0, scores, UNEVEN.all_ids))

    passes, independent = figures("sampler=shuffled"), figures("sampler=shuffled sampler.replacement=true")
    # Only what a batch holds of the next pass can repeat: half a batch of eight a pass of 60 on average.
    assert passes["sampler/repeats_in_pass"] < 0.1
    assert independent["sampler/repeats_in_pass"] > 0.3
    assert passes["sampler/chi_squared/phase"] < independent["sampler/chi_squared/phase"]
    assert passes["sampler/scenario_divergence/natural"] < independent["sampler/scenario_divergence/natural"]
