"""Run the README's own sampler as a user would: its files as printed, outside of the package, found by Hydra."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_runs import ROOT, forked, run_py

from mobile_vla.commands.cli import main
from mobile_vla.errors import ConfigError
from mobile_vla.sampling.contract import check_sampler

FOUND = "hydra.searchpath=[file://my_study]"


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


def run_there(folder: Path, task: Callable[[], tuple[int, str]]) -> tuple[int, str]:
    """Return the exit code and all that is said of ``task`` in a fork of this process that finds modules there too."""

    def with_its_modules() -> int:
        sys.path.insert(0, "my_study")
        exit_code, message = task()
        print(message)
        return exit_code

    return forked(with_its_modules, cwd=folder).wait()


@pytest.mark.slow
def test_it_is_trained_and_compared_beside_the_others(my_study: Path, tiny: tuple[str, ...]) -> None:
    sweep = my_study / "sweep"
    options = ("-m", FOUND, *tiny, f"hydra.sweep.dir={sweep}")
    ran = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *options, "sampler=shuffled,late"],
        cwd=my_study,
        env=os.environ | {"PYTHONPATH": "my_study"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    rows = json.loads((sweep / "comparison.json").read_text())["rows"]
    assert {row["sampler"] for row in rows} == {"shuffled", "late"}

    file = my_study / "my_study" / "late.py"
    text = file.read_text()
    file.write_text(text.replace("1.0 +", "2.0 +"))
    exit_code, said = run_there(my_study, lambda: run_py(*options, "sampler=late"))
    file.write_text(text)
    assert exit_code == 1
    assert "the content of late.Late was" in said


def test_a_wrong_option_of_it_is_an_error_that_names_it(my_study: Path, tiny: tuple[str, ...]) -> None:
    exit_code, said = run_there(my_study, lambda: run_py(FOUND, "sampler=late", "sampler.power=fast", *tiny))
    assert exit_code == 1
    assert "sampler.power: 'fast'" in said


def test_what_it_draws_can_be_looked_at(my_study: Path, tiny: tuple[str, ...]) -> None:
    def draw() -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(["sampler", "late", FOUND, "--out", "drawn", *tiny])
        return (end.value.code, "") if isinstance(end.value.code, int) else (1, str(end.value.code))

    exit_code, said = run_there(my_study, draw)
    assert exit_code == 0, said
    assert list((my_study / "drawn").glob("*.png"))


class Former:
    """A sampler as it was written for an earlier contract."""

    windows = None
    differs_in = "preference"

    def draw(self, step: int, scores: object, look: object) -> None:
        """Draw nothing."""

    def probabilities(self, step: int, scores: object, ids: object) -> None:
        """Return nothing."""

    def no_effect_reason(self) -> None:
        """Return nothing."""


def test_a_sampler_of_another_form_is_an_error_that_says_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match=r"Former.draw takes step, scores, look; expected draw\(self, step, scores\)"):
        check_sampler(Former())
    with pytest.raises(ConfigError, match="object has no windows, differs_in, draw"):
        check_sampler(object())
