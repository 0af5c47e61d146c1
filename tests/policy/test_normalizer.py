"""Normalised train actions have mean 0 and deviation 1, and the way back is exact."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mobile_vla.policy.normalizer import Normalizer

ACTIONS = arrays.arrays(
    np.float32, st.tuples(st.integers(2, 30), st.just(3)), elements=st.floats(-10, 10, width=32, allow_subnormal=False)
)


@given(actions=ACTIONS)
@settings(deadline=None)
def test_denormalising_is_the_inverse(actions: np.ndarray) -> None:
    normalizer = Normalizer.fit(actions)

    back = normalizer.denormalize(normalizer.normalize(torch.from_numpy(actions)))

    torch.testing.assert_close(back, torch.from_numpy(actions), rtol=1e-5, atol=1e-4)


@given(actions=ACTIONS)
@settings(deadline=None)
def test_train_actions_are_standardised_and_a_constant_one_only_shifted(actions: np.ndarray) -> None:
    normalized = Normalizer.fit(actions).normalize(torch.from_numpy(actions)).double().numpy()

    assert np.isfinite(normalized).all()
    varies = actions.astype(np.float64).std(0) > 1e-2
    assert np.allclose(normalized.mean(0)[varies], 0, atol=1e-2)
    assert np.allclose(normalized.std(0)[varies], 1, atol=1e-2)
    assert np.allclose(normalized[:, actions.std(0) == 0], 0, atol=1e-5)
