"""Check every figure of a sampler's diagnostics against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import UNEVEN, Problem, law, problems, scores_of

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


def counted_by_hand(windows: WindowTable, draws: list[Draw], p: np.ndarray) -> dict[str, float]:
    ids = [int(i) for draw in draws for i in draw.ids]
    weights = [float(w) for draw in draws for w in draw.weights]
    visits = [ids.count(i) for i in range(len(windows))]
    last_seen, ages = {}, []
    for step, draw in enumerate(draws):
        ages += [step - last_seen[int(i)] for i in draw.ids if int(i) in last_seen]
        last_seen |= {int(i): step for i in draw.ids}
    expected = {
        "coverage": len(set(ids)) / len(windows),
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
    for phase in range(NUM_PHASES):
        low, high = phase / NUM_PHASES, (phase + 1) / NUM_PHASES
        progress = [windows.progress[i] / 1000 for i in ids]
        expected[f"phase_{phase}"] = np.mean([low <= x < high or (x == 1 and high == 1) for x in progress])
    return {f"sampler/{name}": float(value) for name, value in expected.items()}


@law
@given(problem=problems(), num_draws=st.integers(1, 5))
def test_every_figure_is_what_counting_by_hand_gives(problem: Problem, num_draws: int) -> None:
    windows, draws = problem.windows, random_draws(problem, num_draws)
    p = np.random.default_rng(1).dirichlet(np.ones(len(windows)))
    statistics = DrawStatistics(windows)
    follow(statistics, draws, Scores(len(windows), smoothing=0.5))
    assert statistics.metrics(p) == pytest.approx(counted_by_hand(windows, draws, p))


@law
@given(problem=problems(), num_before=st.integers(0, 4))
def test_a_resumed_run_reports_the_whole_run(problem: Problem, num_before: int) -> None:
    draws, p = random_draws(problem, 6), np.full(len(problem.windows), 1 / len(problem.windows))
    whole, first, second = (DrawStatistics(problem.windows) for _ in range(3))
    follow(whole, draws, Scores(len(problem.windows), smoothing=0.5))
    scores = Scores(len(problem.windows), smoothing=0.5)
    follow(first, draws[:num_before], scores)
    second.load(first.state())
    assert second.metrics(p) == first.metrics(p)
    follow(second, draws[num_before:], scores, first_step=num_before)
    assert second.metrics(p) == whole.metrics(p)


def test_nothing_is_claimed_before_the_first_draw() -> None:
    sampler = UNEVEN.sampler("sampler=shuffled")
    p = sampler.probabilities(scores_of(UNEVEN.windows, seed=0))
    assert DrawStatistics(UNEVEN.windows).metrics(p) == {}


def test_a_saved_state_does_not_move_with_the_run() -> None:
    statistics, scores = DrawStatistics(UNEVEN.windows), scores_of(UNEVEN.windows, seed=0)
    state = statistics.state()
    follow(statistics, random_draws(UNEVEN, 2), scores)
    assert not any(array.any() for array in state.values())
