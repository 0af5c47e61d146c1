"""Kill runs of run.py at moments that a seed chooses, and go on with them until they are done."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from tiny_runs import ROOT, Ran, run_py

from mobile_vla.errors import UserError
from mobile_vla.policy.checkpoint_folder import find_in_run
from mobile_vla.process.interruption import quiet

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

_SECONDS_BETWEEN_LOOKS = 0.005
_MAX_JITTER_S = 0.05
_LIMIT_S = 120


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill: the signal, the rows that were there, the exit code, and what was said on stdout and stderr."""

    number: int
    num_rows: int
    exit_code: int
    said: str


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process that runs run.py, and the file that it writes to."""

    pid: int
    output: Path
    wait: Callable[[], int]
    has_group: bool

    def send(self, number: int) -> None:
        """Send the signal ``number``, as ``kill`` does; SIGINT and SIGHUP as a terminal does, to all it has started."""
        is_of_terminal = self.has_group and number in (signal.SIGINT, signal.SIGHUP)
        with suppress(ProcessLookupError):
            (os.killpg if is_of_terminal else os.kill)(self.pid, number)


def kill_and_resume(
    folder: Path, overrides: Sequence[str], *, seed: int, num_kills: int, num_rows: int, is_forked: bool = True
) -> tuple[Ran, list[Kill]]:
    """Run a job in ``folder``, kill it ``num_kills`` times at random, and go on each time, until it is done.

    ``num_rows`` are the rows that an unkilled run logs: the kills are spread over them. Forked, a process saves the
    imports, which can then not be where it is killed. Raises AssertionError where a signal leaves what it must not.
    """
    start = start_forked if is_forked else start_process
    kills = _kill_at_random(
        lambda: start(folder.parent, command_of(folder, overrides)),
        [folder],
        seed=seed,
        num_kills=num_kills,
        num_rows=num_rows,
    )
    exit_code = start(folder.parent, command_of(folder, overrides)).wait()
    return Ran(folder=folder, exit_code=exit_code, message=""), kills


def kill_and_resume_sweep(
    folder: Path, overrides: Sequence[str], *, seed: int, num_kills: int, num_rows: int, is_forked: bool = True
) -> tuple[int, list[Kill]]:
    """Kill a sweep in ``folder`` as ``kill_and_resume`` does a run; return the exit code of its last call.

    ``num_rows`` are those of all its jobs. A sweep by joblib is not to be forked. Before each call nothing trains on.
    """
    start = start_forked if is_forked else start_process
    command = ("-m", f"hydra.sweep.dir={folder}", *overrides)
    kills = _kill_at_random(
        lambda: start(folder.parent, command), [folder], seed=seed, num_kills=num_kills, num_rows=num_rows
    )
    return start(folder.parent, command).wait(), kills


@contextmanager
def holding(folder: Path) -> Iterator[int]:
    """Let another process have the run in ``folder`` while the block runs, and kill it then."""
    code = "import os, pathlib, sys, time; from mobile_vla.tracking.ownership import owned\n"
    code += "with owned(pathlib.Path(sys.argv[1])): print(os.getpid(), flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(folder)]
    # By a shell, as what this process itself starts would pass for one of its workers.
    with subprocess.Popen(["sh", "-c", f"{shlex.join(command)}; true"], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        yield pid
        os.kill(pid, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], *, limit_s: float = 60) -> None:
    """Return once ``condition`` holds; AssertionError after ``limit_s``."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def command_of(folder: Path, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return what goes on with the run in ``folder``, or begins it where it has no checkpoint."""
    try:
        find_in_run(folder)
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
        return (f"hydra.run.dir={folder}", *overrides)
    return (f"resume={folder}",)


def _kill_at_random(
    start: Callable[[], Process], folders: Sequence[Path], *, seed: int, num_kills: int, num_rows: int
) -> list[Kill]:
    chance = random.Random(seed)
    kills: list[Kill] = []
    first = chance.randrange(3)
    for index in range(num_kills):
        # Spread over what is left, so that the last kills do not all fall upon the end.
        left = (num_rows - _num_rows(folders)) / (num_kills - index)
        target = _num_rows(folders) + int(chance.uniform(0, 2) * left)
        number, jitter_s = SIGNALS[(first + index) % 3], chance.uniform(0, _MAX_JITTER_S)
        is_twice = number != signal.SIGKILL and chance.random() < 0.25
        process = start()
        descendants = _wait_for_rows(process, folders, target)
        time.sleep(jitter_s)
        found = _num_rows(folders)
        process.send(number)
        if is_twice:
            time.sleep(jitter_s)
            process.send(number)
        exit_code = process.wait()
        _wait_for_end(descendants)
        kills.append(Kill(number=number, num_rows=found, exit_code=exit_code, said=process.output.read_text()))
        _check(kills[-1], folders)
        if exit_code == 0:  # it was done before it was killed
            break
    return kills


def _check(kill: Kill, folders: Sequence[Path]) -> None:
    """Raise AssertionError unless the process ended as it should, without a traceback and without a false summary."""
    expected = -kill.number if kill.number == signal.SIGKILL else 128 + kill.number
    assert kill.exit_code in (0, expected), kill
    assert "Traceback" not in kill.said, kill.said
    if kill.exit_code not in (0, -signal.SIGKILL):
        assert "To go on: " in kill.said, kill.said
        running = [path for path in _summaries(folders) if '"status": "running"' in path.read_text()]
        assert not running, running


def _summaries(folders: Sequence[Path]) -> list[Path]:
    return _of_jobs(folders, "summary.json")


def _num_rows(folders: Sequence[Path]) -> int:
    return sum(path.read_bytes().count(b"\n") for path in _of_jobs(folders, "metrics.jsonl"))


def _of_jobs(folders: Sequence[Path], name: str) -> list[Path]:
    return [path for folder in folders for path in (folder / name, *folder.glob(f"*/{name}")) if path.is_file()]


def _wait_for_rows(process: Process, folders: Sequence[Path], target: int) -> list[psutil.Process]:
    """Wait until ``target`` rows are there or ``process`` has ended; return the processes that it has started."""
    end = time.monotonic() + _LIMIT_S
    parent = psutil.Process(process.pid)
    while _num_rows(folders) < target and _is_running(parent):
        assert time.monotonic() < end, process.output.read_text()
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return parent.children(recursive=True) if _is_running(parent) else []


def _wait_for_end(processes: Sequence[psutil.Process]) -> None:
    """Raise AssertionError where a worker outlives what started it by more than a few seconds."""
    workers = [process for process in processes if _is_running(process)]
    _, alive = psutil.wait_procs(workers, timeout=15)
    assert not alive, alive


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start_process(folder: Path, command: Sequence[str]) -> Process:
    """Start run.py as the command line does; it can be killed while it imports."""
    output = _new_output(folder)
    with output.open("wb") as file:
        started = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *command], stdout=file, stderr=file, start_new_session=True
        )
    return Process(pid=started.pid, output=output, wait=lambda: started.wait(timeout=_LIMIT_S), has_group=True)


def start_forked(folder: Path, command: Sequence[str]) -> Process:
    """Start run.py's main in a copy of this process."""
    output = _new_output(folder)
    sys.stdout.flush()
    if pid := os.fork():
        return Process(
            pid=pid, output=output, wait=lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), has_group=False
        )
    exit_code: object = 1
    try:
        for number in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        with quiet():
            exit_code, message = run_py(*command)
            if exit_code in [128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]:
                raise SystemExit(exit_code)
            print(message, file=sys.stderr)
    except SystemExit as end:
        exit_code = end.code
    finally:
        sys.stderr.flush()
        os._exit(exit_code if isinstance(exit_code, int) else 1)


def _new_output(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("said-*.txt")))
    (output := folder / f"said-{number}.txt").touch()
    return output
