"""A checkpoint gives back exactly what was saved, and whatever kills a save leaves one that can be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_batches import make_batch, make_model

from mobile_vla.errors import UserError
from mobile_vla.policy.model import Model
from mobile_vla.training.checkpoint import find_last_checkpoint, load_checkpoint, save_checkpoint


def trained(num_steps: int, *, seed: int = 0) -> tuple[Model, torch.optim.Optimizer]:
    """Return a policy and its optimiser after a few steps."""
    model = make_model(seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(model, optimizer, num_steps)
    return model, optimizer


def train(model: Model, optimizer: torch.optim.Optimizer, num_steps: int) -> None:
    for step in range(num_steps):
        model(make_batch(seed=step)).loss_B.mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def save(
    folder: Path, model: Model, optimizer: torch.optim.Optimizer, *, step: int = 0, description: Any = None
) -> None:
    save_checkpoint(
        folder,
        model=model,
        optimizer=optimizer,
        arrays={"scores/loss": np.array([0.5, np.nan], np.float32), "drawn/visits": np.arange(4).reshape(2, 2).T},
        values={"step": step, "best_val_rmse": None, "latest": {"val/rmse": 0.1}},
        description=description or {},
    )


def test_what_is_loaded_is_what_was_saved_and_goes_on_alike(tmp_path: Path) -> None:
    model, optimizer = trained(3)
    save(tmp_path / "last", model, optimizer, step=3)
    other, other_optimizer = trained(1, seed=9)

    arrays, values = load_checkpoint(tmp_path / "last", model=other, optimizer=other_optimizer)

    assert values == {"step": 3, "best_val_rmse": None, "latest": {"val/rmse": 0.1}}
    np.testing.assert_array_equal(arrays["scores/loss"], np.array([0.5, np.nan], np.float32))
    np.testing.assert_array_equal(arrays["drawn/visits"], np.arange(4).reshape(2, 2).T)
    train(model, optimizer, 2)
    train(other, other_optimizer, 2)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_an_optimiser_that_never_stepped_can_be_saved_and_loaded(tmp_path: Path) -> None:
    save(tmp_path / "last", *trained(0))
    model, optimizer = trained(2)

    load_checkpoint(tmp_path / "last", model=model, optimizer=optimizer)

    assert optimizer.state_dict()["state"] == {}


def test_a_later_checkpoint_replaces_the_earlier_one(tmp_path: Path) -> None:
    model, optimizer = trained(1)
    for step in (1, 2, 3):
        save(tmp_path / "checkpoints" / "last", model, optimizer, step=step)

    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last"]
    _, values = load_checkpoint(find_last_checkpoint(tmp_path), model=model, optimizer=optimizer)
    assert values["step"] == 3


def test_a_save_that_dies_while_writing_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    model, optimizer = trained(1)
    folder = tmp_path / "checkpoints" / "last"
    save(folder, model, optimizer, step=1)

    with pytest.raises(TypeError):
        save(folder, model, optimizer, step=2, description={"not JSON": object()})

    assert load_checkpoint(find_last_checkpoint(tmp_path), model=model, optimizer=optimizer)[1]["step"] == 1
    save(folder, model, optimizer, step=3)
    assert [path.name for path in folder.parent.iterdir()] == ["last"]


def test_a_kill_between_the_two_renames_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    model, optimizer = trained(1)
    folder = tmp_path / "checkpoints" / "last"
    save(folder.with_name("last.old"), model, optimizer, step=1)
    save(folder.with_name("last.partial"), model, optimizer, step=2)

    found = find_last_checkpoint(tmp_path)

    assert load_checkpoint(found, model=model, optimizer=optimizer)[1]["step"] == 1
    save(folder, model, optimizer, step=3)
    assert load_checkpoint(find_last_checkpoint(tmp_path), model=model, optimizer=optimizer)[1]["step"] == 3


def test_a_run_without_a_checkpoint_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "last.partial").mkdir(parents=True)

    with pytest.raises(UserError, match=r"holds no checkpoint \(expected .*checkpoints/last\)"):
        find_last_checkpoint(tmp_path)
