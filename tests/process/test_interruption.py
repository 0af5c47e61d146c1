"""A signal ends whatever a process does without a traceback, leaves a true status, and says how to go on."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from killed_runs import Process, start_forked, start_process, wait_until
from tiny_runs import ROOT, Ran, run_in

from mobile_vla.process.interruption import Interrupted, collected, raising, received

ENDLESS = ("trainer.steps=1000000", "trainer.eval_every=1000000", "trainer.log_every=20", "logger=local")


def end_of(process: Process) -> tuple[int, str]:
    exit_code = process.wait()
    said = process.output.read_text()
    assert "Traceback" not in said, said
    return exit_code, said.splitlines()[-1]


def test_imports_end_at_once(tmp_path: Path) -> None:
    for arguments in (["run.py", "seed=3"], ["-m", "mobile_vla", "inspect", "."]):
        command = [sys.executable, *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        # Not before our own handlers are there: that is Python's own start, of a few hundredths of a second.
        wait_until(lambda pid=process.pid: _catches(pid, signal.SIGTERM))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (130, "")
        assert err == f"stopped by Ctrl-C. To go on: {' '.join(command)}\n"


def _catches(pid: int, number: int) -> bool:
    (caught,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_reading_data_ends_as_stopped(number: signal.Signals, tiny: tuple[str, ...], tmp_path: Path) -> None:
    command = (f"hydra.run.dir={tmp_path / 'run'}", *tiny, f"dataset.cache_dir={tmp_path / 'cache'}")
    run = Ran(folder=tmp_path / "run", exit_code=0, message="")
    process = start_forked(tmp_path, command)
    wait_until(lambda: (run.folder / "summary.json").exists())
    process.send(number)

    exit_code, last_line = end_of(process)

    assert exit_code == 128 + number
    assert (run.summary["status"], run.summary["stopped_by"]) == ("stopped", number.name)
    assert ". To go on: " in last_line
    assert not (run.folder / "traceback.txt").exists()


def test_training_ends_after_the_step_in_hand_and_names_the_command(tiny: tuple[str, ...], tmp_path: Path) -> None:
    run = Ran(folder=tmp_path / "run", exit_code=0, message="")
    process = start_forked(tmp_path, (f"hydra.run.dir={run.folder}", *tiny, *ENDLESS))
    wait_until(lambda: (run.folder / "metrics.jsonl").exists() and len(run.rows) > 1)
    process.send(signal.SIGINT)

    exit_code, last_line = end_of(process)

    assert exit_code == 130
    assert run.summary["status"] == "stopped"
    assert last_line.startswith("stopped by Ctrl-C. To go on: ")
    assert last_line.endswith(f" resume={run.folder}")


def test_a_second_signal_ends_a_long_evaluation_at_once(tiny: tuple[str, ...], tmp_path: Path) -> None:
    run = Ran(folder=tmp_path / "run", exit_code=0, message="")
    # Drawing 2,000 noises for a chunk takes the head minutes.
    slow = ("model/head=diffusion", "model.head.num_levels=2000", "model.head.num_steps=2000", "trainer.eval_every=1")
    process = start_forked(tmp_path, (f"hydra.run.dir={run.folder}", *tiny, *slow))
    wait_until(lambda: (run.folder / "metrics.jsonl").exists())
    time.sleep(0.3)
    process.send(signal.SIGINT)
    time.sleep(0.3)
    assert run.summary["status"] == "running", "the first one waits for the evaluation"
    process.send(signal.SIGINT)
    begun = time.monotonic()

    exit_code, last_line = end_of(process)

    assert time.monotonic() - begun < 5
    assert exit_code == 130
    assert run.summary["status"] == "stopped"
    assert last_line.startswith("stopped by Ctrl-C. To go on: ")


def test_a_sweep_ends_with_the_job_in_hand(tiny: tuple[str, ...], tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    command = ("-m", f"hydra.sweep.dir={sweep}", *tiny, *ENDLESS, "sampler=shuffled,stratified,sequential")
    process = start_forked(tmp_path, command)
    wait_until(lambda: any(path.stat().st_size for path in sweep.glob("*/metrics.jsonl")))
    process.send(signal.SIGINT)

    exit_code, last_line = end_of(process)

    assert exit_code == 130
    assert [Ran(folder=path.parent, exit_code=0, message="").summary["status"] for path in summaries(sweep)] == [
        "stopped"
    ]
    assert "resume=" not in last_line


def summaries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/summary.json"))


PARALLEL = ("trainer.steps=3000", "trainer.eval_every=3000", "trainer.log_every=100", "evaluation.shortcuts=false")


def start_parallel_sweep(folder: Path, settings: Sequence[str]) -> Process:
    """Return a sweep of two workers in ``folder / "sweep"``, each of which has logged a row."""
    sweep = folder / "sweep"
    settings = (*settings, "sampler=shuffled,stratified", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    process = start_process(folder, ("-m", f"hydra.sweep.dir={sweep}", *settings))
    wait_until(lambda: sum(path.stat().st_size > 0 for path in sweep.glob("*/metrics.jsonl")) == 2)
    return process


@pytest.mark.slow
def test_the_end_of_the_terminal_stops_the_jobs_of_a_parallel_sweep(tiny: tuple[str, ...], tmp_path: Path) -> None:
    process = start_parallel_sweep(tmp_path, (*tiny, *PARALLEL))
    process.send(signal.SIGHUP)
    exit_code, _ = end_of(process)
    assert exit_code == 128 + signal.SIGHUP
    assert "stopped by SIGHUP. To go on: " in process.output.read_text()
    jobs = [Ran(folder=path.parent, exit_code=0, message="") for path in summaries(tmp_path / "sweep")]
    assert [job.summary["status"] for job in jobs] == ["stopped", "stopped"]


@pytest.mark.slow
def test_the_workers_of_a_killed_sweep_end_and_the_next_call_goes_on(tiny: tuple[str, ...], tmp_path: Path) -> None:
    settings, sweep = (*tiny, *PARALLEL), tmp_path / "sweep"
    process = start_parallel_sweep(tmp_path, settings)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    _, alive = psutil.wait_procs(workers, timeout=10)

    assert not alive
    assert "Traceback" not in process.output.read_text()
    jobs = [Ran(folder=path.parent, exit_code=0, message="") for path in summaries(sweep)]
    assert [job.summary["status"] for job in jobs] == ["stopped", "stopped"]
    assert all(0 < job.summary["steps"] < 3000 for job in jobs)
    for job in jobs[:1]:  # the rest of 3,000 steps would take the suite too long: a copy that ends soon
        end = job.summary["steps"] + 10
        copy = shutil.copytree(job.folder, tmp_path / job.folder.name)
        resumed = run_in(copy, f"resume={copy}", f"trainer.steps={end}")
        whole = run_in(
            tmp_path / f"{copy.name}-whole",
            *settings,
            f"sampler={job.summary['sampler']}",
            f"trainer.stop_at_step={end}",
        )
        assert resumed.timeless_rows == whole.timeless_rows


def test_a_signal_that_a_destructor_swallows_comes_again() -> None:
    class Swallows:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    def swallow() -> None:
        Swallows()
        time.sleep(5)

    with raising():
        with pytest.raises(Interrupted):
            swallow()
        assert received() == signal.SIGTERM


def test_a_signal_while_a_module_is_imported_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.2)\nIS_WHOLE = True\n"
    (tmp_path / "slow_module.py").write_text(code)

    def wait() -> None:
        importlib.import_module("slow_module")
        time.sleep(5)

    with raising(), pytest.raises(Interrupted):
        wait()

    assert sys.modules["slow_module"].IS_WHOLE


def test_a_signal_that_a_library_swallowed_stops_the_next_loop() -> None:
    with raising():
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        with collected() as caught:
            assert caught == [signal.SIGTERM]
    assert received() is None


def test_several_processes_for_one_run_are_refused_by_each_before_anything_is_written(tmp_path: Path) -> None:
    for rank in ("0", "1"):
        refused = subprocess.run(
            [sys.executable, str(ROOT / "run.py")],
            cwd=tmp_path,
            env={**os.environ, "WORLD_SIZE": "2", "RANK": rank},
            capture_output=True,
            text=True,
        )
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: WORLD_SIZE=2: 2 processes were started for one run")
    assert list(tmp_path.iterdir()) == []
