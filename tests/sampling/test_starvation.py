"""Check that no window is out of reach where a sampler says so, however the scores stand against it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tables import UNEVEN, FixedMeasures, Problem, no_measures, scores_with, table

from mobile_vla.sampling.contract import Sampler, draw_windows
from mobile_vla.sampling.scores import Scores

NUM_WINDOWS = len(UNEVEN.windows)
AGAINST_ONE = np.where(np.arange(NUM_WINDOWS) == 17, 0.0, 1e6)
"""Losses that leave window 17 no reason to be drawn."""


def train(sampler: Sampler, problem: Problem, *, num_steps: int) -> tuple[Scores, list[NDArray[np.int64]]]:
    """Draw as a training does whose losses are 1e6 but for window 17, and return all that was drawn."""
    scores, drawn = Scores(problem.windows, smoothing=0.5), []
    losses = np.where(problem.all_ids == 17, 0.0, 1e6).astype(np.float32)
    for step in range(num_steps):
        drawn.append(draw_windows(sampler, step, scores, FixedMeasures(losses)).ids)
        scores.update(step, drawn[-1], losses[drawn[-1]])
    return scores, drawn


FLOORS = {
    "prioritized sampler.uniform_mix=0.1": 0.1,
    "prioritized_rank sampler.uniform_mix=0.3": 0.3,
    "hard_negative sampler.fraction=1 sampler.uniform_mix=0.2": 0.2,
    "hard_negative": 0.7 + 0.3 * 0.1,
    "hard_negative sampler@sampler.base=prioritized sampler.base.uniform_mix=0.2": 0.7 * 0.2 + 0.3 * 0.1,
    "static_scores sampler.file=FILE sampler.uniform_mix=0.4 sampler.power=9": 0.4,
    "permuted_scores sampler.base.uniform_mix=0.25": 0.25,
    "mixture sampler@sampler.samplers.second=lap": 0.5,
    "action_balanced sampler.max_ratio=4 sampler.power=1": 0.25,
}


@pytest.mark.parametrize("given", FLOORS)
def test_a_uniform_part_is_a_floor_below_every_window(given: str) -> None:
    sampler, scores = UNEVEN.sampler(f"sampler={given}"), scores_with(UNEVEN.windows, AGAINST_ONE)
    p = sampler.probabilities(1000, scores, UNEVEN.all_ids)
    assert p.min() >= FLOORS[given] / NUM_WINDOWS - 1e-12
    drawn = np.concatenate([draw_windows(sampler, 1000 + step, scores, no_measures).ids for step in range(800)])
    # 6400 draws of 60 windows: the least likely floor expects 10 of each.
    assert (np.bincount(drawn, minlength=NUM_WINDOWS) > 0).all()


WARMING_UP = ("prioritized", "prioritized_rank", "lap", "hard_negative", "permuted_scores", "loss_weighted")


@pytest.mark.parametrize("name", WARMING_UP)
@pytest.mark.parametrize("num_passes", [1, 2.5])
def test_a_warm_up_visits_every_window_once_a_pass(name: str, num_passes: float) -> None:
    key = "sampler.base" if name in ("permuted_scores", "loss_weighted") else "sampler"
    sampler = UNEVEN.sampler(f"sampler={name} {key}.warmup_passes={num_passes}")
    num_steps = int(np.ceil(num_passes * NUM_WINDOWS / UNEVEN.batch_size))
    drawn = np.concatenate(train(sampler, UNEVEN, num_steps=num_steps)[1])
    counts = np.bincount(drawn, minlength=NUM_WINDOWS)
    assert counts.min() >= int(num_passes)
    assert np.ptp(counts) <= 1


def test_windows_not_seen_yet_come_first_in_a_curriculum_by_loss() -> None:
    sampler = UNEVEN.sampler("sampler=curriculum sampler.start=0.2")
    # 12 windows are open at first and each batch has 8: while 12 are left, all of a batch are new.
    drawn = train(sampler, UNEVEN, num_steps=7)[1]
    assert len(np.unique(np.concatenate(drawn))) == 7 * 8
    half = scores_with(UNEVEN.windows, np.where(np.arange(NUM_WINDOWS) < 30, 0.0, np.nan))
    for step in range(20):
        assert (draw_windows(sampler, step, half, no_measures).ids >= 30).all()


@pytest.mark.parametrize("given", ["prioritized", "prioritized_rank", "lap"])
def test_without_a_warm_up_a_window_not_seen_yet_is_drawn_as_often_as_an_average_one(given: str) -> None:
    losses = np.where(np.arange(NUM_WINDOWS) == 17, np.nan, 1e6)
    scores, sampler = scores_with(UNEVEN.windows, losses), UNEVEN.sampler(f"sampler={given} sampler.warmup_passes=0")
    assert sampler.probabilities(0, scores, np.array([17])) == pytest.approx(1 / NUM_WINDOWS)
    problem = Problem(windows=table([30, 40]), batch_size=8, seed=1)
    sampler = problem.sampler(f"sampler={given} sampler.warmup_passes=0")
    assert train(sampler, problem, num_steps=150)[0].num_seen == 70


@pytest.mark.parametrize("given", ["shuffled", "stratified", "phase_balanced", "mixture", "selective_backprop"])
def test_what_goes_through_the_table_in_passes_leaves_no_window_out(given: str) -> None:
    scores, drawn = train(UNEVEN.sampler(f"sampler={given}"), UNEVEN, num_steps=60)
    counts = np.bincount(np.concatenate(drawn), minlength=NUM_WINDOWS)
    # Window 17 has the lowest loss of all, so that selective backprop keeps it almost never.
    assert (counts[np.arange(NUM_WINDOWS) != 17] > 0).all()
    assert scores.num_seen == (counts > 0).sum()


@pytest.mark.parametrize("num_phases", [3, 10])
def test_phases_are_drawn_alike_in_every_batch(num_phases: int) -> None:
    problem = Problem(windows=UNEVEN.windows, batch_size=12, seed=0)
    sampler = problem.sampler(f"sampler=phase_balanced sampler.num_phases={num_phases}")
    phase = np.minimum(problem.windows.progress / 1000 * num_phases, num_phases - 1).astype(int)
    total = np.zeros(num_phases, int)
    scores = Scores(problem.windows, smoothing=0.5)
    for step in range(100):
        counts = np.bincount(phase[draw_windows(sampler, step, scores, no_measures).ids], minlength=num_phases)
        assert counts.min() >= 12 // num_phases
        assert counts.max() <= -(-12 // num_phases)
        total += counts
    assert np.ptp(total) <= 2
    p = sampler.probabilities(0, scores, problem.all_ids)
    np.testing.assert_allclose(np.bincount(phase, weights=p), 1 / num_phases)
