"""Check the process that files are read in: it may die, and nothing else dies or stays behind with it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from mobile_vla.data.reading.process import Request, ask, ask_each
from mobile_vla.errors import ConfigError, DataError, UnreadableNowError

FILE = Path("some/file.h5")


def double(path: Path, number: int) -> int:
    return 2 * number


def process_of(path: Path) -> tuple[int, int]:
    return os.getpid(), os.getppid()


def die(path: Path, number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(10)


def take_memory(path: Path) -> int:
    return len([np.ones(2**23) for _ in range(1000)])


def raise_something(path: Path) -> None:
    raise AttributeError("not an error of files")


def fill_the_disk(path: Path) -> None:
    raise ConfigError("the disk is full")


def loop(path: Path) -> None:
    for _ in itertools.count():
        pass


def count_slowly(path: Path, num_blocks: int):
    for _ in range(num_blocks):
        yield
    return num_blocks


def test_a_reader_answers_many_requests_and_stays() -> None:
    first = ask(process_of, FILE)
    assert first[0] != os.getpid()
    assert ask(process_of, FILE) == first
    requests = [Request(work=double, path=FILE, arguments=(i,)) for i in range(50)]
    assert sorted(ask_each(requests, num_processes=3)) == [(i, 2 * i) for i in range(50)]
    assert ask(count_slowly, FILE, 1000) == 1000


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT])
def test_a_crash_is_the_files_and_no_one_elses(number: int) -> None:
    requests = [Request(work=double, path=FILE, arguments=(i,)) for i in range(3)]
    requests.insert(1, Request(work=die, path=Path("bad.h5"), arguments=(number,)))
    answers = dict(ask_each(requests, num_processes=1))
    problem = answers.pop(1)
    assert str(problem).startswith(f"bad.h5: reading it ended the reader with {signal.Signals(number).name}: it is dam")
    assert answers == {0: 0, 2: 2, 3: 4}


def test_who_killed_the_reader_is_not_the_file() -> None:
    with pytest.raises(UnreadableNowError, match=r"some/file.h5: its reader was killed"):
        ask(die, FILE, signal.SIGKILL)


def test_a_file_that_takes_all_memory_is_named_below_the_limit() -> None:
    with pytest.raises(DataError, match=r"some/file.h5: reading it needs more than 768 MiB of memory"):
        ask(take_memory, FILE)


def test_a_file_that_computes_for_ever_is_named_within_five_seconds() -> None:
    before = time.process_time()
    with pytest.raises(DataError, match=r"some/file.h5: reading it took more than 2.5 s without progress"):
        ask(loop, FILE)
    assert time.process_time() - before < 1  # waiting costs nothing


def test_what_nobody_foresaw_is_named_and_a_full_disk_ends_all() -> None:
    with pytest.raises(DataError, match=r"some/file.h5: reading it failed with AttributeError: not an error of files"):
        ask(raise_something, FILE)
    with pytest.raises(ConfigError, match=r"^the disk is full$"):
        ask(fill_the_disk, FILE)
    assert ask(double, FILE, 2) == 4


PARENT = """
import os, sys, time
from pathlib import Path
sys.path[:0] = {path}
from test_reading_process import process_of
from mobile_vla.data.reading.process import ask
readers = ask(process_of, Path("file"))
if {forks} and os.fork() == 0:
    time.sleep(30)
    os._exit(0)
print(*readers, flush=True)
time.sleep(30)
"""


@pytest.mark.parametrize("forks", [False, True], ids=["alone", "a fork holds the pipe"])
def test_a_killed_parent_leaves_no_reader_behind(forks: bool) -> None:
    path = [place for place in sys.path if place]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(path=path, forks=forks)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    readers = [psutil.Process(int(number)) for number in parent.stdout.readline().split()]
    children = psutil.Process(parent.pid).children()
    parent.kill()
    gone, alive = psutil.wait_procs(readers, timeout=6)
    for child in children:  # the fork
        if child.is_running():
            child.kill()
    parent.communicate()
    assert alive == []
    assert len(gone) == 2
