"""The commands beside training: what people see, and what the exit code says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import CONF, READS_SCORES, ROOT, Ran, run_py

from mobile_vla.commands.cli import main
from mobile_vla.sim.demonstrations.scripted import ScriptedEpisodes


def call(*arguments: str | Path) -> int:
    """Run ``python -m mobile_vla`` in this process; return its exit code."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    if isinstance(end.value.code, str):
        print(end.value.code, file=sys.stderr)
        return 1
    return end.value.code or 0


@pytest.fixture
def stores(tmp_path: Path) -> tuple[str, ...]:
    """Overrides that keep a command's caches out of the repository."""
    root = tmp_path / "stores"
    return (f"dataset.cache_dir={root}/cache", f"dataset.datasets_dir={root}/datasets", "dataset.num_workers=0")


def test_inspect_needs_no_override(episodes: Path, stores: tuple[str, ...]) -> None:
    assert call("inspect", episodes, *stores) == 0


def test_inspect_shows_what_a_folder_of_any_name_holds_under_any_override(
    episodes: Path,
    stores: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    odd = tmp_path / "an 'odd', name=x [1]"
    odd.symlink_to(episodes)
    narrow = ("dataset.padding=none", "dataset.window_size=3", "dataset.fwd_pred_next_n=4")
    of_one_sampler = ("sampler=stratified", "sampler.tau=1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")

    exit_code = call("inspect", odd, *stores, *narrow, *of_one_sampler)

    lines = capsys.readouterr().out.splitlines()
    shown = " ".join(" ".join(lines).split())
    assert exit_code == 0
    assert "episodes 14 (train 11, val 3), 152 frames" in shown
    assert "1box_hori_left 5, 1box_hori_right 5, 2box_vert_left 4" in shown
    for name in ("mean", "hold_last", "time_lookup", "scenario_time_lookup"):
        assert f"{name} " in shown
    windows = [line for line in lines if line.startswith("windows ")]
    # An episode of 9 to 13 frames has 3 to 7 windows of 3 + 4 frames.
    counts = [int(word) for word in windows[0].replace(",", " ").split() if word.isdigit()]
    assert sum(counts) == sum(9 + index % 5 - 3 - 4 + 1 for index in range(14))
    (without_file,) = [line for line in lines if "score file" in line]
    for name in READS_SCORES:
        assert name in without_file


def test_inspect_says_when_the_data_can_show_nothing(
    stores: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ScriptedEpisodes(num_left=5, num_right=5, seed=0, image_size=16, num_workers=0).ensure(tmp_path)

    exit_code = call("inspect", folder, *stores, "dataset.padding=none")

    shown = " ".join(capsys.readouterr().out.split())
    assert exit_code == 0, shown
    assert "every train episode has exactly one window" in shown
    assert "lookup table already solves this task" in shown
    assert "sampler=random_temporal cannot differ from shuffled here: every episode has exactly one window" in shown


def test_inspect_takes_its_path_once(
    episodes: Path, stores: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("inspect", episodes, *stores, "dataset.path=/elsewhere") == 1
    assert "dataset.path: is PATH already" in capsys.readouterr().err


def test_inspect_lists_every_bad_file_and_still_shows_the_rest(
    episodes: Path, stores: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed [1]"
    shutil.copytree(episodes, mixed)
    whole = sorted(mixed.iterdir())[0].read_bytes()
    (mixed / "episode_torn.h5").write_bytes(whole[: len(whole) // 2])
    (mixed / "episode_pointer.h5").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (mixed / "episode_text.h5").write_text("not HDF5")

    exit_code = call("inspect", mixed, *stores)

    shown = capsys.readouterr().out
    assert exit_code == 1
    assert "3 episode file(s) cannot be used" in shown
    for name in ("torn", "pointer", "text"):
        assert str(mixed / f"episode_{name}.h5") in shown
    assert "git lfs pull" in shown
    assert "What the data can show" in shown


def test_inspect_lists_the_problems_of_a_folder_where_nothing_is_usable(
    stores: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"episode_{name}.h5").write_text("not HDF5")

    exit_code = call("inspect", tmp_path, *stores)

    said = capsys.readouterr()
    assert exit_code == 1
    for name in ("one", "two"):
        assert f"episode_{name}.h5: is truncated, corrupt or not HDF5" in said.out + said.err


@pytest.mark.parametrize(
    ("path", "message"),
    [("empty", "holds no recordings that are understood"), ("nowhere", "no such folder")],
)
def test_inspect_of_nothing_says_so(
    path: str, message: str, stores: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()

    assert call("inspect", tmp_path / path, *stores) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said


def test_inspect_refuses_an_unknown_key(
    episodes: Path, stores: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("inspect", episodes, *stores, "+dataset.typo=1") == 1
    assert "dataset.typo: Dataset has no such option" in capsys.readouterr().err

    assert call("inspect", episodes, *stores, "dataset.typo=1") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "typo" in said


def test_compare_prints_and_writes_the_table_of_a_sweep(
    tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    run_py("-m", f"hydra.sweep.dir={folder}", *tiny, "sampler=shuffled,sequential")
    written = {name: (folder / name).read_bytes() for name in ("comparison.json", "comparison.csv")}
    for name in written:
        (folder / name).unlink()
    capsys.readouterr()

    exit_code = call("compare", folder)

    assert exit_code == 0
    shown = capsys.readouterr().out
    assert "sequential" in shown
    assert "(baseline)" in shown
    assert {name: (folder / name).read_bytes() for name in written} == written
    assert call("compare", folder, "--baseline", "sequential") == 0
    assert json.loads((folder / "comparison.json").read_text())["baseline"] == "sequential"


def test_compare_with_a_misspelt_baseline_says_what_there_is(
    whole: Ran, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(whole.folder, tmp_path / "run")
    assert call("compare", tmp_path, "--baseline", "shufled") == 1
    assert "The baseline 'shufled' is not among the finished runs" in " ".join(capsys.readouterr().out.split())


def test_compare_without_the_study_s_baseline_ends_with_1(
    whole: Ran, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(whole.folder, tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    assert call("compare", tmp_path) == 0
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"baseline": "sequential"}))
    assert call("compare", tmp_path) == 1
    assert "The baseline 'sequential' is not among the finished runs" in " ".join(capsys.readouterr().out.split())


def test_compare_of_a_folder_without_runs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compare", tmp_path) == 1
    assert f"error: {tmp_path}: found no run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [(), ("inspect",), ("compare",), ("rollout",), ("serve",), ("export",), ("import", "donkeycar")]
)
def test_every_command_explains_itself(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*command, "--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python -m mobile_vla")


def test_a_missing_tub_is_one_plain_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("import", "donkeycar", tmp_path / "tub", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert str(tmp_path / "tub") in said


HEAVY = ("torch", "h5py", "wandb", "scipy", "mujoco", "transformers", "pydantic")


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["--cfg", "job", "sampler=hard_negative"]])
def test_showing_the_config_imports_nothing_heavy(arguments: list[str]) -> None:
    # A module that is imported prints itself; the answer itself is on stdout.
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "run.py"), *arguments], capture_output=True, text=True
    )

    assert shown.returncode == 0, shown.stderr
    assert "sampler" in shown.stdout
    imported = {line.rsplit("|", 1)[1].strip() for line in shown.stderr.splitlines() if "|" in line}
    assert "hydra" in imported
    assert not imported & set(HEAVY)


def test_help_of_the_other_commands_imports_nothing_heavy() -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mobile_vla", "--help"], capture_output=True, text=True, cwd=ROOT
    )

    assert shown.returncode == 0, shown.stderr
    imported = {line.rsplit("|", 1)[1].strip() for line in shown.stderr.splitlines() if "|" in line}
    assert not imported & {"torch", "wandb", "mujoco", "scipy"}


def test_help_names_the_groups_and_how_to_use_them() -> None:
    shown = subprocess.run([sys.executable, str(ROOT / "run.py"), "--help"], capture_output=True, text=True)

    for group in sorted(path.name for path in CONF.iterdir() if path.is_dir()):
        assert f"{group}: " in shown.stdout
    assert "python run.py -m sampler=" in shown.stdout


@pytest.mark.parametrize("asked", ["experiment=tune_hard_negative", "hydra/sweeper=optuna"])
def test_a_sweep_by_optuna_without_it_names_the_extra(
    asked: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mobile_vla.extras.find_spec", lambda name: None)
    assert call("train", "-m", asked) == 1
    assert "pip install 'mobile-vla[tune]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["train", "dataset.generator.num_episodes=4", "logger=local"],
        pytest.param(["sampler", "shuffled", "dataset.generator.num_episodes=4"], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_command_whose_package_is_missing_names_the_extra(
    command: list[str], stores: tuple[str, ...], tmp_path: Path
) -> None:
    without = "import sys; sys.modules['mujoco'] = None; from mobile_vla.commands.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", without, *command, *stores],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 1
    expected = "error: needs the package mujoco, which is not installed: pip install 'mobile-vla[sim]'"
    assert ran.stderr.strip().splitlines()[-1] == expected, ran.stderr
    assert "Traceback" not in ran.stderr
