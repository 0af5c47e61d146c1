"""Training metrics are (sum, count), reduced once, however the windows were batched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobile_vla.training.progress import TrainSums

WINDOWS = st.lists(st.tuples(st.floats(0, 100, width=32), st.sampled_from(["left", "right"])), min_size=1, max_size=40)


def add(sums: TrainSums, windows: list[tuple[float, str]]) -> None:
    losses = np.array([loss for loss, _ in windows], np.float32)
    squared = float(losses.sum(dtype=np.float64)) * 3
    sums.add(
        losses_B=losses, scenario=[name for _, name in windows], squared_error=squared, num_targets=3 * len(losses)
    )


@given(windows=WINDOWS, cut=st.integers(0, 40))
def test_the_means_do_not_depend_on_the_batches(windows: list[tuple[float, str]], cut: int) -> None:
    whole, parts = TrainSums(), TrainSums()
    add(whole, windows)
    for part in (windows[:cut], windows[cut:]):
        if part:
            add(parts, part)

    assert parts.metrics() == pytest.approx(whole.metrics(), rel=1e-9)
    losses = [loss for loss, _ in windows]
    assert whole.metrics()["train/loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    assert whole.metrics()["train/rmse"] == pytest.approx(np.sqrt(np.mean(losses)), rel=1e-6)
    for name in {name for _, name in windows}:
        mine = [loss for loss, of in windows if of == name]
        assert whole.metrics()[f"train/loss/scenario_{name}"] == pytest.approx(np.mean(mine), rel=1e-6)


@given(windows=WINDOWS)
def test_a_saved_state_goes_on_alike(windows: list[tuple[float, str]]) -> None:
    sums, resumed = TrainSums(), TrainSums()
    add(sums, windows)
    resumed.load(sums.state())
    add(sums, windows)
    add(resumed, windows)

    assert resumed.metrics() == sums.metrics()


def test_nothing_is_reported_of_nothing() -> None:
    sums = TrainSums()
    add(sums, [(1.0, "left")])
    sums.reset()

    assert sums.metrics() == {}
