"""The torture of experiments/torture, in short: what was tried is kept, and what is broken is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import ROOT

SCRIPT = ROOT / "experiments" / "torture" / "torture.py"


def trial(name: str, number: int, folder: Path) -> dict[str, object]:
    """Return the outcome of one batch, as the torture itself runs it."""
    command = [sys.executable, str(SCRIPT), "--trial", name, str(number), str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


@pytest.mark.slow
def test_starters_hold(tmp_path: Path) -> None:
    assert trial("starters", 0, tmp_path) == {"num_trials": 1, "facts": {"builds": 1}, "broken": []}
