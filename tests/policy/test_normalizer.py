"""Train actions come out at about unit size, and the way back is exact."""

from __future__ import annotations

import typing

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mobile_vla.policy.normalizer import Normalization, Normalizer

KINDS = typing.get_args(Normalization)
ACTIONS = arrays.arrays(
    np.float32, st.tuples(st.integers(2, 30), st.just(3)), elements=st.floats(-10, 10, width=32, allow_subnormal=False)
)
each = pytest.mark.parametrize("kind", KINDS)


def fitted(kind: Normalization, actions: np.ndarray) -> Normalizer:
    normalizer = Normalizer(kind, num_actions=actions.shape[1])
    normalizer.fit(actions)
    return normalizer


def normalized(kind: Normalization, actions: np.ndarray) -> np.ndarray:
    return fitted(kind, actions).normalize(torch.from_numpy(actions)).double().numpy()


@each
@given(actions=ACTIONS, others=ACTIONS)
def test_denormalising_is_the_inverse_on_any_actions(
    kind: Normalization, actions: np.ndarray, others: np.ndarray
) -> None:
    actions[:, actions.std(0) < 1e-3] = 1.5  # where the spread is tiny, others lie beyond float32's precision
    normalizer = fitted(kind, actions)

    back = normalizer.denormalize(normalizer.normalize(torch.from_numpy(others)))

    torch.testing.assert_close(back, torch.from_numpy(others), rtol=1e-4, atol=1e-4)


@each
@given(actions=ACTIONS)
def test_a_constant_dimension_is_only_shifted(kind: Normalization, actions: np.ndarray) -> None:
    actions[:, 1] = actions[0, 1]

    found = fitted(kind, actions)

    assert float(found.scale_A[1]) == float(found.std_A[1]) == 1
    assert np.isfinite(normalized(kind, actions)).all()
    if kind != "none":
        assert np.allclose(normalized(kind, actions)[:, 1], 0, atol=1e-5)


@given(actions=ACTIONS)
def test_each_kind_puts_the_train_actions_where_it_says(actions: np.ndarray) -> None:
    varies = actions.astype(np.float64).std(0) > 1e-2
    standard, ranged = normalized("mean_std", actions)[:, varies], normalized("min_max", actions)[:, varies]

    assert np.allclose(standard.mean(0), 0, atol=1e-2)
    assert np.allclose(standard.std(0), 1, atol=1e-2)
    assert np.allclose(ranged.min(0), -1, atol=1e-2)
    assert np.allclose(ranged.max(0), 1, atol=1e-2)
    assert np.array_equal(normalized("none", actions), actions)


def test_quantiles_are_the_ends_and_what_lies_beyond_is_not_clipped() -> None:
    actions = np.linspace(-3, 5, 1001, dtype=np.float32)[:, None]
    actions[-1] = 40

    found = normalized("quantile", actions)[:, 0]

    assert np.quantile(found, [0.01, 0.99]) == pytest.approx([-1, 1], abs=1e-3)
    assert found.max() > 8


@each
def test_a_checkpoint_restores_what_was_learnt(kind: Normalization) -> None:
    actions = np.random.default_rng(0).normal(2, 3, (50, 2)).astype(np.float32)
    other = Normalizer(kind, num_actions=2)
    assert torch.equal(other.normalize(torch.from_numpy(actions)), torch.from_numpy(actions))

    other.load_state_dict(fitted(kind, actions).state_dict())

    assert np.array_equal(other.normalize(torch.from_numpy(actions)).double().numpy(), normalized(kind, actions))
    assert np.allclose(other.std_A, actions.std(0))
