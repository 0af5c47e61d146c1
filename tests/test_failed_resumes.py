"""A resume that fails before it got on leaves the run as it was; one that got on leaves a run that failed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import Ran, run_in, slow_but

from mobile_vla.policy.checkpoint_folder import find_checkpoint, find_in_run
from mobile_vla.policy.digests import seal


@pytest.fixture
def done(whole: Ran, tmp_path: Path) -> Ran:
    """A run that ended, to go on with."""
    return Ran(folder=shutil.copytree(whole.folder, tmp_path / "run"), exit_code=0, message="")


def said(run: Path) -> dict[str, bytes]:
    """Return the records of a run, Hydra's log of the calls left out."""
    return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != "run.log"}


def diverge(run: Path) -> None:
    """Let the first loss of whoever goes on be no number."""
    weights = find_checkpoint(run) / "model.safetensors"
    save_file({name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(weights).items()}, weights)
    seal(weights.parent)


def hinder_measuring(run: Path) -> None:
    """Let the measurements after training fail."""
    (run / "val_windows.csv").unlink(missing_ok=True)
    (run / "val_windows.csv").mkdir()


FAILURES: Mapping[str, tuple[Callable[[Path], None], tuple[str, ...], str]] = {
    "a loss that is no number": (diverge, ("trainer.steps=8",), "step 4: the loss is not finite"),
    "a logger's setting": (lambda run: None, ("logger=wandb", "trainer.steps=8"), "WANDB_MODE='sideways': expected"),
    "a measurement": (hinder_measuring, (), "val_windows.csv: cannot be opened: a folder of that name is there"),
}


def resume(run: Path, *overrides: str) -> str:
    """Go on with a run, which fails; return the message it dies with, where that is a plain one."""
    ran = run_in(run, f"resume={run}", *overrides)
    assert ran.exit_code == 1
    return ran.message


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("status", slow_but(["done", "stopped"], ["done"]))
def test_a_resume_that_fails_at_once_leaves_the_records_as_they_were(
    status: str, failure: str, done: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare, overrides, reason = FAILURES[failure]
    (done.folder / "summary.json").write_text(json.dumps({**done.summary, "status": status}))
    prepare(done.folder)
    before = said(done.folder)
    monkeypatch.setenv("WANDB_MODE", "sideways")

    assert reason in resume(done.folder, *overrides) + capsys.readouterr().err
    assert said(done.folder) == before


@pytest.mark.parametrize("status", ["running", "failed"])
def test_one_of_a_run_that_had_not_ended_well_says_why_it_failed(status: str, done: Ran) -> None:
    earlier = {**done.summary, "status": status, "error": "a power cut"}
    (done.folder / "summary.json").write_text(json.dumps(earlier))
    diverge(done.folder)
    before = said(done.folder)

    resume(done.folder, "trainer.steps=8")

    summary = done.summary
    assert summary["error"].startswith("step 4: the loss is not finite")
    assert summary == {**earlier, "status": "failed", "error": summary["error"]}
    after = said(done.folder)
    assert b"NonFiniteLossError" in after.pop("traceback.txt")
    assert {**after, "summary.json": b""} == {**before, "summary.json": b""}


def test_one_that_logged_a_row_leaves_a_run_that_failed(done: Ran) -> None:
    hinder_measuring(done.folder)

    resume(done.folder, "trainer.steps=8")

    assert done.summary["status"] == "failed"
    assert "val_windows.csv: cannot be opened: a folder of that name is there" in done.summary["error"]
    assert done.summary["steps"] == done.rows[-1]["step"] == find_in_run(done.folder).step == 8


def test_the_checkpoint_is_looked_at_before_anything_is_written(done: Ran) -> None:
    for folder in (done.folder / "checkpoints").iterdir():
        (folder / "optimizer.safetensors").unlink()
    before = said(done.folder)

    message = resume(done.folder, "trainer.steps=8")

    assert message.startswith(f"error: resume={done.folder}: holds no last checkpoint that is whole: ")
    for folder in (done.folder / "checkpoints").iterdir():
        assert f"{folder} is damaged: optimizer.safetensors is missing; expected " in message
    assert said(done.folder) == before


def test_what_is_damaged_is_said_at_the_start_and_the_one_before_is_used(
    done: Ran, whole: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = find_in_run(done.folder).path
    content = bytearray((damaged / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(content)

    resumed = run_in(done.folder, f"resume={done.folder}")

    shown = " ".join(capsys.readouterr().out.split())
    assert "is damaged: model.safetensors has other content: blake2b" in shown
    assert "step-00000002 is used in its place" in shown
    assert "training from step 2 to step 4" in shown
    assert "is damaged" in (done.folder / "run.log").read_text()
    assert resumed.timeless_rows == whole.timeless_rows
    assert find_in_run(done.folder).damaged == ()


@pytest.mark.parametrize(
    "content", slow_but(["{}", "[]", "null", '"text"', "7", '{"commit": 3}', "{", ""], ["[]", '{"commit": 3}', "{"])
)
def test_a_damaged_manifest_is_named_and_nothing_changes(content: str, done: Ran) -> None:
    (done.folder / "manifest.json").write_text(content)
    before = said(done.folder)
    message = resume(done.folder, "trainer.steps=6")
    assert re.search(r"manifest\.json: is (damaged: .* not what a run writes there|not JSON)", message)
    assert said(done.folder) == before


def test_a_log_of_any_length_is_gone_on_with(done: Ran) -> None:
    path = done.folder / "metrics.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    wide = json.dumps({**json.loads(first), "note": "x" * 900_000}) + "\n"
    path.write_text(wide * 80 + "".join(others))  # more than a page draws
    ran = run_in(done.folder, f"resume={done.folder}", "trainer.steps=6")
    assert ran.exit_code == 0, ran.message
    assert path.stat().st_size > 64 * 2**20
