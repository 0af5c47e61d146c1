"""A run folder has one owner at a time, whoever starts what; the others are told who that is, and change nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
from pathlib import Path

import pytest
from killed_runs import Process, holding, start_forked, wait_until
from test_experiments import content_of
from tiny_runs import Ran, run_in, run_py

from mobile_vla.errors import ConfigError
from mobile_vla.tracking.ownership import LOCK_FILE, OwnedElsewhereError, owned, owner_of


def test_an_owner_is_named_and_its_end_frees_the_folder(tmp_path: Path) -> None:
    with holding(tmp_path) as pid:
        owner = owner_of(tmp_path)
        assert owner is not None
        assert owner.pid == pid
        for to_read in (False, True):
            with (
                pytest.raises(OwnedElsewhereError, match=f"process {pid} on .*, since "),
                owned(tmp_path, to_read=to_read),
            ):
                pass
    # It was killed: what it left is nobody's.
    assert (tmp_path / LOCK_FILE).exists()
    assert owner_of(tmp_path) is None
    with owned(tmp_path):
        assert owner_of(tmp_path) is not None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_said(
    number: int, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as faked:  # none is here
        faked.setattr(fcntl, "flock", refuse)
        ran = run_in(tmp_path / "run", *tiny)

    assert ran.exit_code == 1
    assert f"error: {ran.folder}: its file system has no locks ({os.strerror(number)})" in ran.message
    assert "hydra.run.dir=" in ran.message
    assert {path.name for path in ran.folder.iterdir()} <= {"run.log", LOCK_FILE}


def test_no_link_is_followed_and_no_pipe_waited_for(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for folder in (tmp_path / "link", tmp_path / "pipe"):
        folder.mkdir()
    (tmp_path / "link" / LOCK_FILE).symlink_to(tmp_path / "thesis.tex")
    os.mkfifo(tmp_path / "pipe" / LOCK_FILE)

    with pytest.raises(ConfigError), owned(tmp_path / "link"):
        pass
    assert owner_of(tmp_path / "link") is None
    assert owner_of(tmp_path / "pipe") is None
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_record_that_is_none_leaves_the_owner_unnamed(tmp_path: Path) -> None:
    with holding(tmp_path):
        for content in ("", "[" * 100_000, '{"pid": 3}', "\x00"):
            (tmp_path / LOCK_FILE).write_text(content)
            assert str(owner_of(tmp_path)) == "another process"


def test_whatever_would_write_a_run_in_hand_is_refused_and_changes_nothing(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    settings = (*tiny, "trainer.stop_at_step=2")
    assert run_in(run, *settings).exit_code == 0
    before = content_of(run)
    with holding(run) as pid:
        during = content_of(run)
        for refused in (
            run_in(run, *settings),
            run_in(run, *tiny, "sampler=stratified"),
            run_in(run, f"resume={run}"),
            run_in(other, f"resume={run}"),  # what it would read is being written
        ):
            assert refused.exit_code == 1
            assert refused.message.startswith(f"error: {run}: process {pid} on ")
            assert content_of(run) == during
    assert not any(path.name == "manifest.json" for path in other.iterdir())
    with holding(other) as pid:
        assert run_in(other, f"resume={run}").message.startswith(f"error: {other}: process {pid} on ")
    (run / LOCK_FILE).unlink()
    assert content_of(run) == before


def test_a_run_that_cannot_be_written_can_be_gone_on_with_elsewhere(
    tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run_in(run, *tiny, "trainer.stop_at_step=2")
    open_ = os.open

    def refuse(path: str | Path, flags: int, *mode: int, **of: int) -> int:
        if Path(path) == run / LOCK_FILE and flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return open_(path, flags, *mode, **of)

    with monkeypatch.context() as faked:  # whoever runs this may write anywhere
        faked.setattr(os, "open", refuse)
        resumed = run_in(tmp_path / "other", f"resume={run}")
        refused = run_in(run, f"resume={run}")

    assert resumed.exit_code == 0, resumed.message
    assert f"{run}: cannot be written (Read-only file system)" in refused.message


def test_of_two_that_start_together_one_runs(tiny: tuple[str, ...], tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = (f"hydra.run.dir={run}", *tiny, "trainer.steps=1000000", "trainer.eval_every=1000000")
    processes = [start_forked(tmp_path / str(index), settings) for index in range(2)]
    wait_until(lambda: (run / "metrics.jsonl").exists() and any("error: " in _said(p) for p in processes))
    first, second = sorted(processes, key=lambda process: "error: " in _said(process))
    assert second.wait() == 1
    assert f"error: {run}: process {first.pid} on " in _said(second)
    first.send(signal.SIGTERM)
    assert first.wait() == 128 + signal.SIGTERM
    rows = Ran(folder=run, exit_code=0, message="").rows
    assert [row["step"] for row in rows] == list(range(len(rows)))


def _said(process: Process) -> str:
    return process.output.read_text()


def test_a_job_of_a_sweep_cannot_be_gone_on_with_meanwhile(tiny: tuple[str, ...], tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    run_py("-m", f"hydra.sweep.dir={sweep}", *tiny, "sampler=shuffled", "trainer.stop_at_step=2")
    (job,) = (path.parent for path in sweep.glob("*/manifest.json"))
    assert json.loads((job / "summary.json").read_text())["status"] == "stopped"
    with holding(job) as pid:
        assert f"process {pid} on " in run_in(job, f"resume={job}").message
