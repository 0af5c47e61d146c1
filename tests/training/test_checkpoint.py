"""A checkpoint gives back exactly what was saved; the newest and the best stay, whole, whatever stops a save."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_batches import make_batch, make_model

from mobile_vla.errors import UserError
from mobile_vla.policy.checkpoint_folder import Found, find_in_run
from mobile_vla.policy.model import Model
from mobile_vla.training.checkpoint import Checkpoints, load_checkpoint, write_checkpoint


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


def write(model: Model, optimizer: torch.optim.Optimizer, step: int, folder: Path, *, description: Any = None) -> None:
    write_checkpoint(
        folder,
        model=model,
        optimizer=optimizer,
        arrays={"scores/loss": np.array([0.5, np.nan], np.float32), "drawn/visits": np.arange(4).reshape(2, 2).T},
        values={"step": step, "best_error": None, "latest": {"val/rmse": 0.1}},
        description=description or {},
    )


def names_in(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").iterdir()}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder without checkpoints."""
    return tmp_path / "run"


def test_what_is_loaded_is_what_was_saved_and_goes_on_alike(tmp_path: Path) -> None:
    model, optimizer = trained(3)
    write(model, optimizer, 3, tmp_path)
    other, other_optimizer = trained(1, seed=9)

    arrays, values = load_checkpoint(tmp_path, model=other, optimizer=other_optimizer)

    assert values == {"step": 3, "best_error": None, "latest": {"val/rmse": 0.1}}
    np.testing.assert_array_equal(arrays["scores/loss"], np.array([0.5, np.nan], np.float32))
    np.testing.assert_array_equal(arrays["drawn/visits"], np.arange(4).reshape(2, 2).T)
    train(model, optimizer, 2)
    train(other, other_optimizer, 2)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_an_optimiser_that_never_stepped_can_be_saved_and_loaded(tmp_path: Path) -> None:
    write(*trained(0), 0, tmp_path)
    model, optimizer = trained(2)

    load_checkpoint(tmp_path, model=model, optimizer=optimizer)

    assert optimizer.state_dict()["state"] == {}


@pytest.fixture
def written() -> Callable[[int], Callable[[Path], None]]:
    """What fills the checkpoint of a step."""
    model, optimizer = trained(1)
    return lambda step: partial(write, model, optimizer, step)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_and_the_best_stay(keep: int, written: Callable[[int], Callable[[Path], None]], run: Path) -> None:
    checkpoints = Checkpoints(run / "checkpoints", keep=keep, resumed_from=None)
    for step in (8, 9, 10, 11, 100_000_000):
        if step in (8, 9):
            checkpoints.save("best", step, written(step), num_bytes=1)
        checkpoints.save("step", step, written(step), num_bytes=1)

    steps = ("step-00000009", "step-00000010", "step-00000011", "step-100000000")
    assert names_in(run) == {"best-00000009", *steps[-keep:]}
    assert [find_in_run(run, which).step for which in ("last", "best")] == [100_000_000, 9]


def test_a_save_that_fails_leaves_what_was_there(written: Callable[[int], Callable[[Path], None]], run: Path) -> None:
    checkpoints = Checkpoints(run / "checkpoints", keep=2, resumed_from=None)
    checkpoints.save("step", 1, written(1), num_bytes=1)

    with pytest.raises(TypeError):
        checkpoints.save("step", 2, partial(written(2), description={"not JSON": object()}), num_bytes=1)
    assert names_in(run) == {"step-00000001"}

    def fill_the_disk(folder: Path) -> None:
        written(2)(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        UserError,
        match=r"No space left.* about 12,345,678 bytes, and [0-9,]{5,} bytes are free",
    ):
        checkpoints.save("step", 2, fill_the_disk, num_bytes=12_345_678)
    assert names_in(run) == {"step-00000001"}
    assert find_in_run(run).step == 1


def test_what_a_kill_left_goes_with_the_next_save(written: Callable[[int], Callable[[Path], None]], run: Path) -> None:
    for name in ("step-00000001.partial", "best-00000001.removed"):
        (run / "checkpoints" / name / "adapter").mkdir(parents=True)

    Checkpoints(run / "checkpoints", keep=2, resumed_from=None).save("step", 1, written(1), num_bytes=1)

    assert names_in(run) == {"step-00000001"}


def test_a_new_run_in_the_folder_of_another_keeps_none_of_its_checkpoints(
    written: Callable[[int], Callable[[Path], None]], run: Path
) -> None:
    earlier = Checkpoints(run / "checkpoints", keep=2, resumed_from=None)
    for step in (0, 2):
        earlier.save("best", step, written(step), num_bytes=1)
        earlier.save("step", step, written(step), num_bytes=1)

    Checkpoints(run / "checkpoints", keep=2, resumed_from=None).save("step", 0, written(0), num_bytes=1)

    assert names_in(run) == {"step-00000000"}


def test_a_run_that_went_on_from_an_earlier_one_replaces_what_was_damaged(
    written: Callable[[int], Callable[[Path], None]], run: Path
) -> None:
    earlier = Checkpoints(run / "checkpoints", keep=3, resumed_from=None)
    for step in (2, 4, 5):
        earlier.save("step", step, written(step), num_bytes=1)
    for step in (4, 5):
        (run / "checkpoints" / f"step-0000000{step}" / "policy.json").write_text("[]")
    before = (run / "checkpoints" / "step-00000002" / "digests.json").stat().st_mtime_ns

    later = Checkpoints(run / "checkpoints", keep=3, resumed_from=find_in_run(run).path.name)
    later.save("step", 2, written(2), num_bytes=1)  # a stop before the first step
    assert (run / "checkpoints" / "step-00000002" / "digests.json").stat().st_mtime_ns == before
    assert find_in_run(run).step == 2
    later.save("step", 4, written(4), num_bytes=1)

    assert names_in(run) == {"step-00000002", "step-00000004"}
    assert find_in_run(run) == Found(path=run / "checkpoints" / "step-00000004", step=4, damaged=())
