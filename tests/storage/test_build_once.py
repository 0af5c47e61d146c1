"""Check that a derived folder is built once, whole, whoever starts together and whoever was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobile_vla.storage.build_once import build_once

BUILDER = """
import os, sys, time
from pathlib import Path
from mobile_vla.storage.build_once import build_once

def build(folder):
    (folder / "half").write_text("x")
    with open(sys.argv[2], "a") as log:
        log.write(f"{os.getpid()}\\n")
    time.sleep(float(sys.argv[3]))
    (folder / "content").write_text("whole")

print((build_once(Path(sys.argv[1]), build) / "content").read_text())
"""


def start_builder(folder: Path, log: Path, *, seconds: float) -> subprocess.Popen[str]:
    """Start a process that builds ``folder`` in ``seconds`` and writes a line to ``log`` when it begins."""
    command = [sys.executable, "-c", BUILDER, str(folder), str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_start_together_build_once_and_all_use_it(tmp_path: Path) -> None:
    builders = [start_builder(tmp_path / "a" / "made", tmp_path / "log", seconds=0.5) for _ in range(3)]
    assert [builder.communicate(timeout=30)[0] for builder in builders] == ["whole\n"] * 3
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_what_a_killed_builder_left_is_removed_by_the_next(tmp_path: Path) -> None:
    killed = start_builder(tmp_path / "made", tmp_path / "log", seconds=60)
    deadline = time.monotonic() + 20
    while not (tmp_path / "log").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "made").exists()
    assert (tmp_path / "made.partial" / "half").exists()

    build_once(tmp_path / "made", lambda folder: (folder / "content").write_text("second") and None)
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == ["complete.json", "content"]
    assert not (tmp_path / "made.partial").exists()


def test_a_build_that_fails_leaves_no_folder_and_the_next_may_succeed(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        build_once(tmp_path / "made", fail)
    assert not (tmp_path / "made").exists()
    made = build_once(tmp_path / "made", lambda folder: (folder / "whole").touch())
    assert sorted(p.name for p in made.iterdir()) == ["complete.json", "whole"]
    build_once(tmp_path / "made", fail)  # not called: it is there
