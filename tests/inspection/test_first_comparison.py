"""Check `experiment=my_data`: the samplers are chosen on the data, its time is said, and a report is at its end."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from made_episodes import actions, images, write_h5
from omegaconf import DictConfig
from tiny_runs import SMALLEST_MODEL, run_py

from mobile_vla.commands import cli
from mobile_vla.study.plan import PlannedJob, plan_jobs

SMALL = (
    *SMALLEST_MODEL,
    "trainer.steps=2",
    "trainer.eval_every=2",
    "trainer.batch_size=4",
    "trainer.device=cpu",
    "evaluation.probe_windows=8",
    "evaluation.shortcuts=false",
    "dataset.image_size=16",
    "logger=local",
)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Episodes of one length whose names no shipped grammar reads."""
    folder = tmp_path / "my recordings"
    folder.mkdir()
    for number in range(10):
        name = f"run_{'left' if number % 2 else 'right'}_{number:03d}.h5"
        write_h5(folder / name, images=images(20, seed=number), actions=actions(20, seed=number, num_columns=3))
    return folder


def pasted(said: str, start: str) -> str:
    """Return the printed command that begins with ``start``, without the ends of its lines."""
    lines = said.replace("\\\n", "").splitlines()
    [line] = [line.strip() for line in lines if line.strip().lstrip("'\"").startswith(start)]
    return line


@pytest.mark.slow
@pytest.mark.parametrize("names", ["run_{side}_{n:03d}", "it's {side}, run {n:03d}", "a${{b}}-[{side}]-{n}"])
def test_what_is_printed_runs_as_pasted_into_bash(names: str, tmp_path: Path) -> None:
    folder = tmp_path / "it's my, (old) recordings"
    folder.mkdir()
    for number in range(10):
        name = names.format(side=("left", "right")[number % 2], n=number)
        write_h5(folder / f"{name}.h5", images=images(20, seed=number), actions=actions(20, seed=number))
    cache = f"dataset.cache_dir={tmp_path}/cache"

    def bash(command: str) -> str:
        begin = f"export COLUMNS=80; python() {{ '{sys.executable}' \"$@\"; }};"
        done = subprocess.run(["bash", "-c", f"{begin} {command}"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    inspect = f"python -m mobile_vla inspect {shlex.quote(str(folder))} {shlex.join([cache, *SMALL])}"
    found = pasted(bash(inspect), "dataset.grammars.own")
    said = bash(f"{inspect} {found}")
    assert re.search(r"scenarios\s+(left 5, right 5|right 5, left 5)", said)

    command = pasted(said, "python run.py")
    config = yaml.safe_load(bash(f"{command} --cfg job"))  # what the sweep's jobs would be
    assert config["dataset"]["path"] == str(folder)
    assert re.fullmatch(config["dataset"]["grammars"]["own"], names.format(side="left", n=3))


def test_names_that_nobody_reads_are_shown_with_the_override_that_does(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = (str(recordings), f"dataset.cache_dir={tmp_path / 'cache'}", "dataset.image_size=16")
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", *common])
    assert end.value.code == 0
    said = capsys.readouterr().out
    override, chosen = shlex.split(pasted(said, "dataset.grammars.own"))  # as a shell reads what is pasted
    assert chosen == "dataset.scenario=[name]"
    assert "2 scenarios: left 5, right 5" in said or "2 scenarios: right 5, left 5" in said

    with pytest.raises(SystemExit):
        cli.main(["inspect", *common, override, chosen])
    assert re.search(r"scenarios\s+(left 5, right 5|right 5, left 5)", capsys.readouterr().out)


def test_from_a_folder_to_a_report(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sweep"
    planned: list[int] = []

    def counted(config: DictConfig) -> list[PlannedJob]:
        planned.append(1)
        return plan_jobs(config)

    monkeypatch.setattr("mobile_vla.study.plan.plan_jobs", counted)
    path = f"dataset.path='{recordings}'"

    exit_code, message = run_py(
        "experiment=my_data",
        path,
        f"dataset.cache_dir={tmp_path / 'cache'}",
        f"hydra.sweep.dir={folder}",
        *SMALL,
        "seed=0,1",
    )

    said = capsys.readouterr().out
    assert exit_code == 0, message
    # Episodes of one length in one scenario: two candidates cannot differ from shuffling, and are not run.
    assert "not random_temporal: it cannot differ from shuffled here" in said
    assert "not stratified: it cannot differ from shuffled here" in said
    assert re.search(r"8 runs: about .* here", said)
    assert "Measured: 6 steps of 4 windows (fp32, cpu) on black images" in said
    assert len(planned) == 1  # composing takes 0.1 s a job
    jobs = {path.name.rsplit("-", 2)[0] for path in folder.iterdir() if path.is_dir()}
    assert jobs == {"shuffled", "sequential", "action_balanced", "hard_negative"}
    assert "my_data_my_recordings" in (folder / "study.json").read_text()
    assert (folder / "report.html").is_file()


def test_only_the_runs_that_are_left_are_estimated_and_a_wrong_option_ends_it_before_them(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (f"dataset.path='{recordings}'", f"dataset.cache_dir={tmp_path / 'cache'}")
    common = ("experiment=my_data", *data, f"hydra.sweep.dir={tmp_path / 'sweep'}", *SMALL, "sampler=shuffled")
    assert run_py(*common, "seed=0")[0] == 0
    capsys.readouterr()

    assert run_py(*common, "seed=0,1")[0] == 0
    assert capsys.readouterr().out.startswith("1 run: about")

    wrong = (f"hydra.sweep.dir={tmp_path / 'other'}", "model.state=all")
    exit_code, message = run_py(*common, "seed=0", *wrong)
    assert exit_code == 1
    assert "model.state=all: has no effect" in message
    assert not list((tmp_path / "other").glob("*/metrics.jsonl"))


def test_data_that_are_not_there_end_it_with_a_sentence(tmp_path: Path) -> None:
    exit_code, message = run_py("experiment=my_data", f"dataset.path={tmp_path / 'nowhere'}")
    assert exit_code == 1
    assert message.startswith(f"error: {tmp_path / 'nowhere'}: no such folder or file")
