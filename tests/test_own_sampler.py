"""Run the README's own sampler as a user would: its files as printed, outside of the package, found by Hydra."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import ROOT


@pytest.fixture(scope="module")
def my_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the files that the README shows, and return the folder they lie beside."""
    section = (ROOT / "README.md").read_text().split("## A sampler of your own")[1]
    blocks = dict(re.findall(r"```(python|yaml)\n(.*?)```", section, re.DOTALL))
    folder = tmp_path_factory.mktemp("user")
    (folder / "my_study" / "sampler").mkdir(parents=True)
    (folder / "my_study" / "late.py").write_text(blocks["python"])
    (folder / "my_study" / "sampler" / "late.yaml").write_text(blocks["yaml"])
    return folder


def run_there(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": "my_study"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_it_is_trained_and_compared_beside_the_others(my_study: Path, tiny: tuple[str, ...]) -> None:
    sweep = my_study / "sweep"
    ran = run_there(
        my_study,
        *(str(ROOT / "run.py"), "-m", "hydra.searchpath=[file://my_study]", "sampler=shuffled,late"),
        *(*tiny, f"hydra.sweep.dir={sweep}", "closed_loop=none"),
    )
    assert ran.returncode == 0, ran.stderr
    rows = json.loads((sweep / "comparison.json").read_text())["rows"]
    assert {row["sampler"] for row in rows} == {"shuffled", "late"}

    file = my_study / "my_study" / "late.py"
    text = file.read_text()
    file.write_text(text.replace("1.0 +", "2.0 +"))
    again = run_there(
        my_study,
        *(str(ROOT / "run.py"), "-m", "hydra.searchpath=[file://my_study]", "sampler=late"),
        *(*tiny, f"hydra.sweep.dir={sweep}", "closed_loop=none"),
    )
    file.write_text(text)
    assert again.returncode == 1
    assert "the content of late.Late was" in again.stderr


def test_a_wrong_option_of_it_is_an_error_that_names_it(my_study: Path, tiny: tuple[str, ...]) -> None:
    ran = run_there(
        my_study,
        *(str(ROOT / "run.py"), "hydra.searchpath=[file://my_study]", "sampler=late", "sampler.power=fast"),
        *tiny,
    )
    assert ran.returncode == 1
    assert "sampler.power: 'fast'" in ran.stderr


def test_what_it_draws_can_be_looked_at(my_study: Path, tiny: tuple[str, ...]) -> None:
    ran = run_there(
        my_study,
        *("-m", "mobile_vla", "sampler", "late", "hydra.searchpath=[file://my_study]", "--out", "drawn", *tiny),
    )
    assert ran.returncode == 0, ran.stderr
    assert list((my_study / "drawn").glob("*.png"))
