"""A command whose output nobody reads to its end (``... | head``) ends without a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tiny_runs import ROOT, slow_but

PROGRAMS = {
    "run.py --help": ("run.py", "--help"),
    "inspect --help": ("-m", "mobile_vla", "inspect", "--help"),
    "train --help": ("-m", "mobile_vla", "train", "--help"),
}


# Quick: one of each program; ``train --help`` is what run.py calls.
@pytest.mark.parametrize("name", slow_but(PROGRAMS, ("run.py --help", "inspect --help")))
def test_a_reader_that_is_gone_ends_it_quietly(name: str) -> None:
    process = subprocess.Popen(
        [sys.executable, *PROGRAMS[name]], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()  # before anything is printed
    _, shown = process.communicate(timeout=60)
    assert shown == b""


WRITES_TO_ANOTHER_PIPE = """
import os
from mobile_vla.process.interruption import quiet
with quiet():
    read, write = os.pipe()
    os.close(read)
    os.write(write, b"x")
"""


def test_another_broken_pipe_is_an_error_as_before() -> None:
    command = [sys.executable, "-c", WRITES_TO_ANOTHER_PIPE]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "BrokenPipeError" in ended.stderr
