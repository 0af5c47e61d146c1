"""Check on a least-squares problem which samplers keep the mean gradient, and what those that do not prefer."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tables import UNEVEN, FixedMeasures, Problem, scores_with, table
from tiny_runs import every

from mobile_vla.sampling.contract import Sampler, ScoreWindows, draw_windows
from mobile_vla.sampling.scores import Scores

AFTER_WARM_UP = 2000
NUM_STEPS = 600

NUM_WINDOWS = len(UNEVEN.windows)
LARGE = Problem(windows=table([1000] * 20), batch_size=128, seed=0)
"""Above the size from which ranks are those of a pool."""


class LeastSquares:
    """(x w - y)^2 of N windows at a w that does not fit them: losses [N], gradients [N, 3] and their norms [N]."""

    def __init__(self, num_windows: int) -> None:
        random = np.random.default_rng(0)
        x_ND = random.normal(size=(num_windows, 3)) * random.exponential(size=(num_windows, 1))
        residual_N = x_ND @ np.array([1.0, -2.0, 0.5]) + random.normal(size=num_windows) + 1
        self.losses_N = residual_N**2
        self.gradients_ND = 2 * residual_N[:, None] * x_ND
        self.norms_N = np.linalg.norm(self.gradients_ND, axis=1)
        self.mean_D = self.gradients_ND.mean(0)

    def steps_of(
        self, sampler: Sampler, scores: Scores, score_windows: ScoreWindows, *, weighted: bool = True
    ) -> NDArray[np.float64]:
        """Return the gradients [NUM_STEPS, 3] that the batches of a sampler have."""
        draws = [draw_windows(sampler, AFTER_WARM_UP + step, scores, score_windows) for step in range(NUM_STEPS)]
        weights = [draw.weights if weighted else np.ones(len(draw.ids)) for draw in draws]
        return np.array(
            [np.mean(w[:, None] * self.gradients_ND[draw.ids], axis=0) for w, draw in zip(weights, draws, strict=True)]
        )


def largest_error(steps: NDArray[np.float64], expected_D: NDArray[np.float64]) -> float:
    """Return by how many standard errors the mean of independent ``steps`` is off, in its worst dimension."""
    return float(np.max(np.abs(steps.mean(0) - expected_D) / (steps.std(0) / np.sqrt(len(steps)))))


UNBIASED = (
    "prioritized sampler.beta_start=1 sampler.divide_by_largest=false",
    "prioritized sampler.beta_start=0 sampler.divide_by_largest=false sampler.uniform_mix=0.5",
    "prioritized sampler.by=rank sampler.beta_start=1 sampler.divide_by_largest=false",
    "gradnorm_is sampler.min_tau=0",
    "gradnorm_is sampler.min_tau=1.4",
    "gradnorm_is",
    "gradnorm_is sampler.min_tau=0 sampler.candidates_per_draw=1",
    "gradnorm_is sampler.min_tau=0 sampler.candidates_per_draw=100",
    "loss_weighted sampler@sampler.base=shuffled",
)

BIASED = (
    "prioritized sampler.beta_end_step=1000000 sampler.beta_start=0",
    "prioritized sampler.by=rank sampler.beta_end_step=1000000 sampler.beta_start=0",
    "prioritized sampler.beta_start=1",
    "lap",
    "hard_negative",
    "rho sampler.file=FILE",
    "selective_backprop",
    "loss_weighted",
)


@pytest.mark.parametrize("given", every(2, UNBIASED))
def test_importance_weights_keep_the_mean_gradient(given: str) -> None:
    problem = LeastSquares(NUM_WINDOWS)
    sampler, scores = UNEVEN.sampler(f"sampler={given}"), scores_with(UNEVEN.windows, problem.losses_N)
    steps = problem.steps_of(sampler, scores, FixedMeasures(problem.norms_N))
    assert largest_error(steps, problem.mean_D) < 4.5


@pytest.mark.parametrize("given", every(2, BIASED))
def test_what_prefers_windows_without_undoing_it_does_not_keep_the_mean_gradient(given: str) -> None:
    problem = LeastSquares(NUM_WINDOWS)
    sampler, scores = UNEVEN.sampler(f"sampler={given}"), scores_with(UNEVEN.windows, problem.losses_N)
    steps = problem.steps_of(sampler, scores, FixedMeasures(problem.losses_N))
    assert largest_error(steps, problem.mean_D) > 6


@pytest.mark.parametrize("given", [UNBIASED[0], UNBIASED[2], "gradnorm_is sampler.min_tau=0"])
def test_half_the_windows_not_seen_yet_keep_the_mean_gradient_too(given: str) -> None:
    problem = LeastSquares(NUM_WINDOWS)
    losses = np.where(np.arange(NUM_WINDOWS) % 2, problem.losses_N, np.nan)
    sampler, scores = UNEVEN.sampler(f"sampler={given}"), scores_with(UNEVEN.windows, losses)
    steps = problem.steps_of(sampler, scores, FixedMeasures(problem.norms_N))
    assert largest_error(steps, problem.mean_D) < 4.5


@pytest.mark.parametrize("given", [UNBIASED[2], "gradnorm_is sampler.min_tau=0"])
def test_a_table_of_which_only_a_part_is_ranked_keeps_the_mean_gradient(given: str) -> None:
    problem = LeastSquares(len(LARGE.windows))
    sampler, scores = LARGE.sampler(f"sampler={given}"), scores_with(LARGE.windows, problem.losses_N)
    measures = FixedMeasures(problem.norms_N)
    draws = [draw_windows(sampler, AFTER_WARM_UP + step, scores, measures) for step in range(100)]
    steps = np.array([np.mean(d.weights[:, None] * problem.gradients_ND[d.ids], axis=0) for d in draws])
    assert largest_error(steps, problem.mean_D) < 4.5


def test_draws_by_the_gradients_norm_shrink_its_second_moment_by_tau_squared() -> None:
    problem = LeastSquares(NUM_WINDOWS)
    p = problem.norms_N / problem.norms_N.sum()
    tau = np.sqrt(NUM_WINDOWS * np.square(p).sum())
    measures, scores = FixedMeasures(problem.norms_N), scores_with(UNEVEN.windows, problem.losses_N)
    everywhere = "sampler=gradnorm_is sampler.candidates_per_draw=100"
    draw = draw_windows(UNEVEN.sampler(f"{everywhere} sampler.min_tau={tau - 1e-6}"), 0, scores, measures)
    # Every drawn window pulls equally hard; under uniform draws the mean square is tau^2 times as large.
    pull = draw.weights * problem.norms_N[draw.ids]
    np.testing.assert_allclose(pull, np.sqrt(np.square(problem.norms_N).mean()) / tau, rtol=1e-5)
    uniform = draw_windows(UNEVEN.sampler(f"{everywhere} sampler.min_tau={tau + 1e-6}"), 0, scores, measures)
    assert (uniform.weights == 1).all()


def test_prioritised_weights_follow_their_definition_and_beta_grows_in_line_to_1() -> None:
    problem = LeastSquares(NUM_WINDOWS)
    scores, measures = scores_with(UNEVEN.windows, problem.losses_N), FixedMeasures(problem.norms_N)
    for divide in ("true", "false"):
        sampler = UNEVEN.sampler(f"sampler=prioritized sampler.divide_by_largest={divide}")
        for step, beta in ((300, 0.4 + 0.6 * 0.2), (1500, 1.0), (9000, 1.0)):
            draw = draw_windows(sampler, step, scores, measures)
            weights = (NUM_WINDOWS * sampler.probabilities(step, scores, draw.ids)) ** -beta
            np.testing.assert_allclose(draw.weights, weights / (weights.max() if divide == "true" else 1), rtol=1e-5)
            # As u of the draws are uniform.
            assert (weights <= 0.1**-beta + 1e-9).all()


BASES = (
    "lap",
    "prioritized",
    "prioritized sampler.base.by=rank",
    "stratified",
    "action_balanced",
    "length_weighted",
    "group_dro sampler.base.file=FILE",
    "static_scores sampler.base.file=FILE",
    "hard_negative sampler.base.dedupe_radius=0 sampler.base.top_fraction=0.5",
)


@pytest.mark.parametrize("base", every(3, BASES))
def test_loss_weights_have_the_expected_gradient_of_their_bases_draws(base: str) -> None:
    problem = LeastSquares(NUM_WINDOWS)
    scores, measures = scores_with(UNEVEN.windows, problem.losses_N), FixedMeasures(problem.norms_N)
    genuine = UNEVEN.sampler(f"sampler={base.replace('.base.', '.')}")
    expected = problem.steps_of(genuine, scores, measures, weighted=False)
    control = UNEVEN.sampler(f"sampler=loss_weighted sampler@sampler.base={base}")
    # Two whole passes: what is left is not noise.
    passes = [draw_windows(control, AFTER_WARM_UP // 15 * 15 + step, scores, measures) for step in range(15)]
    found = np.mean([np.mean(d.weights[:, None] * problem.gradients_ND[d.ids], axis=0) for d in passes], axis=0)
    assert np.mean([d.weights.mean() for d in passes]) == pytest.approx(1, rel=1e-6)
    assert largest_error(expected, found) < 4.5
