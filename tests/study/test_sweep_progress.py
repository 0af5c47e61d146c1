"""The line that says how far a sweep is agrees with what its jobs wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobile_vla.study.sweep import Watch
from mobile_vla.study.sweep_progress import read_progress

STARTED = 1_000_000.0


def write_job(folder: Path, status: str, *, at: float, step: int = 0, num_steps: int = 100) -> Path:
    """Write what a job of ``num_steps`` steps has written when it is in ``status`` at ``at``."""
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"num_steps": num_steps}))
    (folder / "metrics.jsonl").write_text(json.dumps({"step": step}) + '\n{"step": 7')
    (folder / "summary.json").write_text(json.dumps({"status": status}))
    os.utime(folder / "summary.json", (at, at))
    return folder


def test_jobs_are_counted_by_what_they_are_doing_in_this_sitting(tmp_path: Path) -> None:
    jobs = [
        write_job(tmp_path / "a", "done", at=STARTED - 9),
        write_job(tmp_path / "b", "done", at=STARTED + 9),
        write_job(tmp_path / "c", "failed", at=STARTED + 9),
        write_job(tmp_path / "d", "running", at=STARTED + 9, step=50),
        write_job(tmp_path / "killed before", "running", at=STARTED - 9, step=50),
        write_job(tmp_path / "failed before", "failed", at=STARTED - 9),
        tmp_path / "not begun",
    ]

    progress = read_progress(jobs, started=STARTED, now=STARTED + 100)

    assert (progress.done, progress.running, progress.failed, progress.waiting) == (2, 1, 1, 3)
    # 2.5 jobs took 100 s, 3.5 are to do.
    assert progress.seconds_left == pytest.approx(140)
    assert str(progress) == "2 of 7 done, 1 running, 1 failed, 3 waiting, about 2 min left"


def test_nothing_is_said_of_the_time_before_anything_is_known(tmp_path: Path) -> None:
    progress = read_progress([tmp_path / "a", tmp_path / "b"], started=STARTED, now=STARTED + 5)

    assert str(progress) == "0 of 2 done, 0 running, 0 failed, 2 waiting"


def test_a_sweep_that_is_over_has_no_time_left(tmp_path: Path) -> None:
    jobs = [write_job(tmp_path / "a", "done", at=STARTED + 1), write_job(tmp_path / "b", "stopped", at=STARTED + 1)]

    assert (
        str(read_progress(jobs, started=STARTED, now=STARTED + 5))
        == "1 of 2 done, 0 running, 0 failed, 1 stopped, 0 waiting"
    )


@pytest.mark.parametrize("module", ["torch", "rich", "filelock", "mobile_vla.study.plan"])
def test_a_call_that_only_prints_its_help_does_not_wait_for_the_plan(module: str) -> None:
    code = f"import sys, mobile_vla.study.sweep, mobile_vla.study.naming; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_each_job_that_ends_is_one_line_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = Watch("mine", [tmp_path / "a", tmp_path / "b"], is_told=False)

    watch.start()
    write_job(tmp_path / "a", "done", at=time.time())
    time.sleep(2.5)
    lines = capsys.readouterr().out.splitlines()
    write_job(tmp_path / "b", "failed", at=time.time())
    watch.stop()

    assert len(lines) == 1
    assert lines[0].startswith("study mine: 1 of 2 done, 0 running, 0 failed, 1 waiting, about ")
    assert capsys.readouterr().out == "study mine: 1 of 2 done, 0 running, 1 failed, 0 waiting\n"
