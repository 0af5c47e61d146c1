"""A save that is killed at any moment leaves a whole checkpoint, and training and inference find the same one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import Ran, forked, run_in

from mobile_vla.policy.checkpoint_folder import Found, entries_of, find_in_run
from mobile_vla.policy.policy import Policy
from mobile_vla.policy.stored_model import load_stored_model
from mobile_vla.training.checkpoint import Checkpoints, load_checkpoint, write_checkpoint

_CALLS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
"""Audit events of calls that change a folder; ``os.fsync`` has none."""

KILLED = 77


def before_each_call(folder: Path, act: Callable[[int], object]) -> None:
    """Let ``act`` happen in this process before each of its calls that touch or sync ``folder``, with its number.

    What lies there then is what a SIGKILL leaves. There is no end to it: use it in a process of its own.
    """
    number, is_acting = 0, False

    def count() -> None:
        nonlocal number, is_acting
        if not is_acting:
            is_acting = True
            act(number)
            number, is_acting = number + 1, False

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        # rmtree names files relative to an open folder: it removes nothing else here.
        if event in _CALLS and (event in ("os.remove", "os.rmdir") or str(folder) in str(arguments[0])):
            count()

    def sync(descriptor: int, fsync: Callable[[int], None] = os.fsync) -> None:
        count()
        fsync(descriptor)

    os.fsync = sync
    sys.addaudithook(hear)


def save_next(run: Path, found: Found) -> None:
    """Write the checkpoint of the step after ``found``, as the best one and as the newest."""
    model, description = load_stored_model(found.path)
    optimizer = torch.optim.AdamW(model.parameters())
    arrays, values = load_checkpoint(found.path, model=model, optimizer=optimizer)
    step = found.step + 1
    parts = {"model": model, "optimizer": optimizer, "arrays": arrays, "values": {**values, "step": step}}
    write = partial(write_checkpoint, **parts, description=description.to_json())
    checkpoints = Checkpoints(run / "checkpoints", keep=2, resumed_from=found.path.name)
    for kind in ("best", "step"):
        checkpoints.save(kind, step, write, num_bytes=0)


def test_a_kill_at_any_call_leaves_a_whole_checkpoint_for_all(whole: Ran, tmp_path: Path) -> None:
    run = shutil.copytree(whole.folder, tmp_path / "run")

    def save_and_copy() -> int:
        found = find_in_run(run)
        before_each_call(run, lambda number: shutil.copytree(run, tmp_path / "killed" / str(number)))
        save_next(run, found)
        return 0

    exit_code, said = forked(save_and_copy, cwd=tmp_path).wait()
    assert exit_code == 0, said
    killed = sorted((tmp_path / "killed").iterdir())
    assert len(killed) > 50
    found_after: dict[tuple[str, ...], Found] = {}
    for folder in (*killed, run):
        # What lies there decides: the same names are looked at once.
        names = tuple(sorted(path.relative_to(folder).as_posix() for path in (folder / "checkpoints").rglob("*")))
        if names not in found_after:
            found_after[names] = look_and_go_on(folder)
    assert {found.path.name for found in found_after.values()} == {"step-00000004", "best-00000005", "step-00000005"}
    assert {Path(name).suffix for names in found_after for name in names} > {".partial", ".removed"}


def look_and_go_on(run: Path) -> Found:
    """Return what training finds; inference finds it too, and what was left half done hinders no later save."""
    found = find_in_run(run)
    assert found.damaged == (), "a kill is no damage"
    Policy.load(run, checkpoint="best")
    weights = load_file(found.path / "model.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in Policy.load(run)._model.state_dict().items())
    save_next(run, found)
    assert not [path for path in (run / "checkpoints").iterdir() if path.suffix]
    assert [entry.kind for entry in entries_of(run / "checkpoints")] == ["step", "best", "step"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 30, 60, 90])
def test_a_run_that_was_killed_while_saving_goes_on_as_if_it_had_not_been(
    number: int, whole: Ran, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def task() -> int:
        before_each_call(run / "checkpoints", lambda at: os._exit(KILLED) if at == number else None)
        return run_in(run, *tiny).exit_code

    exit_code, said = forked(task, cwd=tmp_path).wait()
    assert exit_code == KILLED, said
    if not entries_of(run / "checkpoints"):
        assert run_in(run, f"resume={run}").message.startswith(f"error: resume={run}: holds no checkpoint")
        return

    resumed = run_in(run, f"resume={run}")

    assert resumed.exit_code == 0, resumed.message
    assert resumed.timeless_rows == whole.timeless_rows
