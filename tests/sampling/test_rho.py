"""Hold rho's shares of the draws against the hypergeometric law that they follow."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import hypergeom
from tables import score_file, scores_with, table

from mobile_vla.sampling.strategies.rho import Rho
from mobile_vla.streams import Stream


@given(
    num_windows=st.integers(2, 60),
    batch_size=st.integers(1, 80),
    keep=st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 9),
)
@example(num_windows=49, batch_size=49, keep=0.8, seed=0)  # where i / N * N falls below i
@example(num_windows=20, batch_size=5, keep=1.0, seed=0)
@example(num_windows=20, batch_size=5, keep=0.25, seed=0)
def test_a_window_is_drawn_where_fewer_than_a_batch_of_the_other_candidates_are_better(
    num_windows: int, batch_size: int, keep: float, seed: int
) -> None:
    windows = table([num_windows])
    file = score_file(windows, np.zeros(num_windows, np.float32))
    sampler = Rho(windows=windows, batch_size=batch_size, stream=Stream(seed, "sampler"), file=file, keep=keep)
    losses = np.random.default_rng(seed).permutation(num_windows) + 1.0
    rank = num_windows - losses.astype(int)
    num_candidates = int(np.ceil(batch_size / keep))
    if num_candidates < num_windows:
        chosen = hypergeom.cdf(batch_size - 1, num_windows - 1, rank, num_candidates - 1)
    else:  # the best of them once more often than the others
        chosen = batch_size // num_windows + (rank < batch_size % num_windows)

    found = sampler.probabilities(3, scores_with(windows, losses), np.arange(num_windows))

    np.testing.assert_allclose(found, chosen / chosen.sum(), rtol=0, atol=1e-9)
