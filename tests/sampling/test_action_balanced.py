"""Check the weights of rare actions against densities counted in loops."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from tables import no_measures, scores_of, table

from mobile_vla.sampling.contract import draw_windows
from mobile_vla.sampling.parts.weighted import WeightedSampler
from mobile_vla.sampling.strategies.action_balanced import action_balanced
from mobile_vla.streams import Stream

NUM_WINDOWS = 400
WINDOWS = table([NUM_WINDOWS])
ALL = np.arange(NUM_WINDOWS)


def balanced(
    actions_NKA: NDArray[np.floating],
    mask_NK: NDArray[np.bool_] | None = None,
    *,
    density: str = "label",
    num_bins: int = 20,
    power: float = 0.5,
    max_ratio: float = 1e9,
) -> WeightedSampler:
    mask = np.ones(actions_NKA.shape[:2], bool) if mask_NK is None else mask_NK
    actions = (actions_NKA * mask[..., None]).astype(np.float32)
    return action_balanced(
        windows=WINDOWS,
        batch_size=50,
        stream=Stream(0, "sampler"),
        chunks=lambda ids: (actions[ids], mask[ids]),
        density=density,  # pyright: ignore[reportArgumentType]
        num_bins=num_bins,
        power=power,
        max_ratio=max_ratio,
    )


def probabilities(sampler: WeightedSampler) -> NDArray[np.float64]:
    return sampler.probabilities(0, scores_of(WINDOWS, seed=0), ALL)


def skewed(num_dimensions: int = 2) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return chunks of three actions, of which the last ones do not exist for some."""
    random = np.random.default_rng(0)
    mask = np.arange(3) < random.integers(1, 4, NUM_WINDOWS)[:, None]
    return random.exponential(size=(NUM_WINDOWS, 3, num_dimensions)).astype(np.float32), mask


@pytest.mark.parametrize(("num_bins", "power"), [(50, 0.5), (20, 1.0), (7, 0.3), (1, 1.0)])
def test_labels_weigh_by_their_smoothed_density(num_bins: int, power: float) -> None:
    actions, mask = skewed()
    weights = np.zeros(NUM_WINDOWS)
    for dimension in range(2):
        label = np.array([actions[i, mask[i], dimension].mean() for i in ALL])
        counts, edges = np.histogram(label, num_bins)
        kernel = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 2.0**2))
        density = correlate1d(counts.astype(float), kernel / kernel.sum(), mode="mirror")
        own = density[np.clip(np.searchsorted(edges, label, side="right") - 1, 0, num_bins - 1)] ** -power
        weights += own / own.mean()
    found = probabilities(balanced(actions, mask, num_bins=num_bins, power=power))
    # Rounding to float32 may move a label over an edge.
    assert np.isclose(found, weights / weights.sum(), rtol=0.01).mean() > 0.98


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_codes_weigh_by_how_many_chunks_are_like_theirs(power: float) -> None:
    # Three manoeuvres far apart, one of them rare, all with the same mean action but for the order in time.
    kind = np.repeat([0, 1, 2], [300, 80, 20])
    shapes = np.array([[[0, 0], [0, 0]], [[9, 0], [-9, 0]], [[-9, 0], [9, 0]]], float)
    actions = shapes[kind] + np.random.default_rng(0).normal(0, 0.01, (NUM_WINDOWS, 2, 2))
    found = probabilities(balanced(actions, density="code", num_bins=3, power=power))
    expected = np.bincount(kind)[kind] ** -power
    np.testing.assert_allclose(found, expected / expected.sum())


@pytest.mark.parametrize("density", ["label", "code"])
def test_the_largest_weight_is_at_most_so_many_times_the_smallest(density: str) -> None:
    actions, mask = skewed()
    free = probabilities(balanced(actions, mask, density=density, power=1))
    held = probabilities(balanced(actions, mask, density=density, power=1, max_ratio=3))
    assert free.max() / free.min() > 3
    assert held.max() / held.min() == pytest.approx(3)
    np.testing.assert_allclose(held / held.min(), np.minimum(free / free.min(), 3))


def test_rare_actions_are_drawn_more_often_and_equally_often_with_the_whole_inverse() -> None:
    actions = np.zeros((NUM_WINDOWS, 1, 1), np.float32)
    actions[:40] = 100
    sampler = balanced(actions, num_bins=50, power=1)
    drawn = np.concatenate(
        [draw_windows(sampler, step, scores_of(WINDOWS, seed=0), no_measures).ids for step in range(400)]
    )
    # Mirrored at its edges, the histogram counts both heaps alike.
    assert (drawn < 40).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("density", ["label", "code"])
def test_what_does_not_exist_counts_for_nothing(density: str) -> None:
    actions, mask = skewed()
    other = np.where(mask[..., None], actions, 7).astype(np.float32)
    np.testing.assert_array_equal(
        probabilities(balanced(actions, mask, density=density)), probabilities(balanced(other, mask, density=density))
    )


@pytest.mark.parametrize("density", ["label", "code"])
def test_actions_that_are_all_the_same_leave_nothing_to_balance(density: str) -> None:
    sampler = balanced(np.full((NUM_WINDOWS, 3, 2), 0.5), density=density)
    assert "equally likely" in str(sampler.no_effect_reason())
    np.testing.assert_allclose(probabilities(sampler), 1 / NUM_WINDOWS)


@pytest.mark.parametrize("density", ["label", "code"])
def test_many_joints_of_which_some_never_move_are_weighted(density: str) -> None:
    random = np.random.default_rng(0)
    chunks_NKA = random.normal(0, 1, (NUM_WINDOWS, 10, 26)).cumsum(1).astype(np.float32)
    chunks_NKA[..., 20:] = 3.0
    chunks_NKA[:8] += 40  # a rare pose of the whole arm

    p_N = probabilities(balanced(chunks_NKA, density=density, num_bins=16, max_ratio=10))

    assert p_N.sum() == pytest.approx(1)
    assert p_N[:8].mean() > 1.5 * p_N[8:].mean()
