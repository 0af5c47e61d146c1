"""A package that is installed and cannot be loaded is named as such; the recordings are not blamed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_bags import write_drive
from made_lerobot import write_v21
from tiny_runs import ROOT

BREAKS = {
    "a shared library": 'raise ImportError("libx.so.61: cannot open shared object file", name="{module}")',
    "a package that it needs": "import a_package_that_is_not_there",
    "another version": "from os import a_name_that_is_not_there",
}


READ = """
import sys
from pathlib import Path
from mobile_vla.data.episodes import read_recordings
from mobile_vla.data.sources.bags.options import BagOptions
from mobile_vla.data.sources.bags.source import BagSource
from mobile_vla.data.sources.lerobot.source import LeRobotSource
folder = Path(sys.argv[1])
if sys.argv[2] == "rosbags":
    topics = {"image_topic": "auto", "command_topic": "auto", "state_topics": [], "instruction_topic": "auto"}
    options = BagOptions(**topics, max_command_age_s=0.5, max_state_age_s=0.5, max_gap_s=1.0)
    source = BagSource(folder=folder, options=options)
else:
    source = LeRobotSource(folder=folder)
try:
    found = read_recordings(source, cache_dir=folder.parent / "cache", num_workers=1)
except Exception as error:
    print(type(error).__name__, error)
else:
    print(found.problems)
"""


def told_of(recordings: Path, package: str, broken: Path) -> str:
    """Return what a process says that reads ``recordings`` with the modules in ``broken`` in place of the real ones."""
    places = (broken, ROOT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    command = [sys.executable, "-c", READ, str(recordings), package]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize(("package", "module"), [("av", "av"), ("rosbags", "rosbags.rosbag2")])
def test_a_broken_package_is_named_with_its_cause(tmp_path: Path, package: str, module: str, how: str) -> None:
    recordings = tmp_path / "recordings"
    if package == "av":
        write_v21(recordings)
    else:
        write_drive(recordings / "bag")
    place = tmp_path / "broken" / Path(*module.split("."))
    place.mkdir(parents=True)
    (tmp_path / "broken" / package / "__init__.py").write_text("")
    (place / "__init__.py").write_text(BREAKS[how].format(module=module) + "\n")
    shown = told_of(recordings, package, tmp_path / "broken")
    assert f"needs the package {package}, which is installed but cannot be loaded (" in shown
    assert "ConfigError" in shown
    assert "Traceback" not in shown
    assert "Copy" not in shown
