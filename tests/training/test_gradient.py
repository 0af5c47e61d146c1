"""The gradient of a batch is the same however the batch is cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_batches import make_batch
from tiny_runs import compose_config
from training_runs import Weighted, train_run, watched_optimizer

from mobile_vla.run.build import Run, build_run

WEIGHTS = (0.5, 2.0, 1.0, 0.0, 1.5, 3.0, 0.25, 1.0)


@pytest.fixture
def make_run(tiny: tuple[str, ...]) -> Callable[..., Run]:
    return lambda *overrides: build_run(compose_config([*tiny, "dataset.padding=both", *overrides]))


def padded_draw(run: Run) -> Weighted:
    """Return a draw of eight windows, of which some lack history and some lack actions."""
    windows = run.data.windows["train"]
    ids = [*np.flatnonzero(windows.pad_start)[:3], *np.flatnonzero(windows.pad_end)[:3], 5, 6]
    assert len(ids) == len(WEIGHTS)
    return Weighted(windows=windows, ids=tuple(int(i) for i in ids), weights=WEIGHTS)


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_the_rows_of_a_batch_together_are_the_batch(sizes: list[int]) -> None:
    batch = make_batch(num_windows=sum(sizes))
    ends = np.cumsum(sizes).tolist()

    parts = [batch.rows(end - size, end) for size, end in zip(sizes, ends, strict=True)]

    assert [len(part) for part in parts] == sizes
    for entry in fields(batch):
        whole, pieces = getattr(batch, entry.name), [getattr(part, entry.name) for part in parts]
        if whole is None:
            assert pieces == [None] * len(parts)
        else:
            assert [value for piece in pieces for value in np.asarray(piece).tolist()] == np.asarray(whole).tolist()


@pytest.mark.parametrize("backbone_rate", ["null", "3.0e-4"])
def test_a_cut_batch_trains_the_same_weights(backbone_rate: str, make_run: Callable[..., Run], tmp_path: Path) -> None:
    trained, logged = [], []
    sizes = ("null", 1, 3, 4, 7)
    for size in sizes:
        run = make_run(f"trainer.micro_batch_size={size}", f"trainer.backbone_learning_rate={backbone_rate}")
        _, rows = train_run(run, tmp_path / str(size), sampler=padded_draw(run))
        trained.append([parameter.detach() for parameter in run.model.parameters()])
        logged.append([(row["train/loss"], row["train/rmse"], row["train/grad_norm"]) for row in rows if row["step"]])

    for size, cut, of_cut in zip(sizes, trained, logged, strict=True):
        torch.testing.assert_close(cut, trained[0], rtol=0, atol=2e-6, msg=lambda text, size=size: f"{size}: {text}")
        np.testing.assert_allclose(of_cut, logged[0], rtol=1e-5, err_msg=str(size))


def test_the_gradient_of_a_cut_batch_is_the_weighted_mean_over_all_of_it(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run("trainer.micro_batch_size=3", "trainer.steps=1", "trainer.clip_grad_norm=1000")
    sampler = padded_draw(run)
    loss_B = run.model(run.data.readers["train"].gather(np.array(sampler.ids))).loss_B
    (loss_B * torch.tensor(WEIGHTS)).mean().backward()
    expected = [parameter.grad.clone() for parameter in run.model.parameters() if parameter.grad is not None]
    run.model.zero_grad()

    with watched_optimizer() as seen:
        train_run(run, tmp_path, sampler=sampler)

    for given_gradient, gradient in zip(seen.gradients[0], expected, strict=True):
        torch.testing.assert_close(given_gradient, gradient, rtol=1e-5, atol=1e-7)


def test_augmentation_draws_for_the_whole_batch(make_run: Callable[..., Run], tmp_path: Path) -> None:
    losses = []
    for size in ("null", 3):
        run = make_run(f"trainer.micro_batch_size={size}", "augmentation=all")
        _, rows = train_run(run, tmp_path / str(size), sampler=padded_draw(run))
        losses.append([row["train/loss"] for row in rows if row["step"]])

    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
