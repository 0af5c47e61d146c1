"""Ask reading processes for what files hold, so that no file can crash, hang or fill the process that trains."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from mobile_vla.errors import DataError, UnreadableNowError, UserError

MAX_CPU_S = 2.5
"""Of computing without progress; a block of frames takes a tenth. A file is promised to take no 5 s of a clock."""

MAX_WAIT_S = 60.0
"""Without progress, computing or not: a slow disk is no damage."""

MAX_MEMORY_MIB = 768
"""Above what a worker has when it starts, which is below 100 MiB: together they stay below 1 GB."""

_PRELOADED = "mobile_vla.data.frames,mobile_vla.data.hdf5_recording"

# It imports from where this process does, and not from its working folder (-P), which may hold a numpy.py.
_START = """
import json, sys
descriptor, parent, path, modules = sys.argv[1:]
sys.path[:] = json.loads(path)
from mobile_vla.data.reading.server import serve
serve(int(descriptor), int(parent), modules)
"""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A reading process has done one more block of the file it reads."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The worker of a reading process died with ``status``, negative for a signal; the next one is ready."""

    status: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """Call ``work(path, *arguments)`` in a reading process; ``work`` is a function of a module.

    A generator's yields are progress, and what it returns is the answer. Arguments and answer are pickled.
    """

    work: Callable[..., Any]
    path: Path
    arguments: tuple[Any, ...] = ()


class _Reader:
    """One reading process, the pipe to it, and the request that it works on."""

    def __init__(self) -> None:
        self.is_whole = True
        self._num_answered = 0
        self._request: Request | None = None
        try:
            self.connection, theirs = multiprocessing.Pipe()
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as the process does; a full pipe would block it)
            path = json.dumps([str(place) for place in sys.path if place])
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(theirs.fileno()), str(os.getpid()), path, _PRELOADED],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # it forks, and forks have one thread
            )
            theirs.close()
        except OSError as error:
            raise UserError(
                f"no process can be started that reads episode files ({error}). Close other programs, or raise the "
                "limits on processes and open files (ulimit -u, ulimit -n)."
            ) from error

    def is_alive(self) -> bool:
        return self.is_whole and self._process.poll() is None

    def close(self) -> None:
        """End the process; its worker ends with the pipe."""
        self.connection.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def send(self, request: Request) -> None:
        """Begin to work on ``request``."""
        self._request = request
        self.connection.send((request.work, request.path, request.arguments))

    def receive(self) -> tuple[Any] | None:
        """Return the answer of the process, in a tuple, or None where it has not finished yet."""
        assert self._request is not None
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionError) as error:
            raise UserError(
                f"{self._request.path}: the process that reads episode files ended (exit status "
                f"{self._process.wait()}). Start again.\n{self._last_words()}"
            ) from error
        except Exception as error:  # whatever pickle makes of what a spoilt memory sends
            self.is_whole = False
            return (DataError(f"{self._request.path}: reading it spoilt the reader ({error}). {_REMOVE}"),)
        if isinstance(message, Progress):
            return None
        if not isinstance(message, Ended):
            self._num_answered = 0 if isinstance(message, UserError) else self._num_answered + 1
            return (message,)
        if self._num_answered and -message.status in _CRASHES:
            self._num_answered = 0  # a file that was read before may be what spoilt the memory: a fresh worker decides
            self.send(self._request)
            return None
        self._num_answered = 0
        return (self._describe_end(self._request.path, message.status),)

    def give_up(self) -> tuple[DataError]:
        """Return the answer of a process that not even the kernel ends: it waits for a disk."""
        assert self._request is not None
        self.is_whole = False
        return (UnreadableNowError(f"{self._request.path}: {_SLOW}"),)

    def _describe_end(self, path: Path, status: int) -> DataError:
        if -status == signal.SIGPROF:
            return DataError(f"{path}: reading it took more than {MAX_CPU_S:g} s without progress: it is {_DAMAGED}")
        if -status == signal.SIGALRM:
            return UnreadableNowError(f"{path}: {_SLOW}")
        if -status == signal.SIGKILL:
            return UnreadableNowError(
                f"{path}: its reader was killed, by a person or by a system that is out of memory. Start again."
            )
        if status > 0:
            return DataError(f"{path}: its reader ended with exit status {status}. {_REMOVE}\n{self._last_words()}")
        name = signal.Signals(-status).name
        return DataError(f"{path}: reading it ended the reader with {name}: it is {_DAMAGED}")

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-1000:]


_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}
_REMOVE = "Copy the file again or remove it."
_DAMAGED = f"damaged or hostile. {_REMOVE}"
_SLOW = (
    f"did not answer within {MAX_WAIT_S:g} s: a disk or a network share that is very slow or gone. Look at the disk, "
    "then start again."
)

_idle: list[_Reader] = []
"""Readers without a request: starting one takes 0.2 s, so they stay for the next call."""

_lock = threading.Lock()


def _forget_readers() -> None:
    """Leave a fork's parent its readers."""
    _idle.clear()


os.register_at_fork(after_in_child=_forget_readers)


@atexit.register
def _close_readers() -> None:
    while _idle:
        _idle.pop().close()


def _take_reader() -> _Reader:
    with _lock:
        reader = _idle.pop() if _idle else None
    if reader is None:
        return _Reader()
    if reader.is_alive():
        return reader
    reader.close()
    return _take_reader()


def ask(work: Callable[..., Any], path: Path, *arguments: Any) -> Any:
    """Return ``work(path, *arguments)``, called in a reading process; ``DataError`` where the file cannot be used."""
    [(_, answer)] = ask_each([Request(work=work, path=path, arguments=arguments)], num_processes=1)
    if isinstance(answer, DataError):
        raise answer
    return answer


def ask_each(requests: Sequence[Request], *, num_processes: int) -> Iterator[tuple[int, Any]]:
    """Yield the index of each request with its answer or its ``DataError``, in the order in which they are ready.

    ``num_processes`` (0 counts as 1) work side by side. Any other ``UserError`` (a full disk) is raised and ends all.
    """
    waiting = list(enumerate(requests))[::-1]
    busy: dict[_Reader, int] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < max(num_processes, 1):
                index, request = waiting.pop()
                reader = _take_reader()
                busy[reader] = index
                reader.send(request)
            # Twice as long as a worker may wait: only one that the kernel cannot end says nothing for so long.
            ready = wait([reader.connection for reader in busy], timeout=2 * MAX_WAIT_S)
            for reader in [reader for reader in busy if not ready or reader.connection in ready]:
                answer = reader.receive() if ready else reader.give_up()
                if answer is None:
                    continue
                if isinstance(answer[0], UserError) and not isinstance(answer[0], DataError):
                    raise answer[0]
                index = busy.pop(reader)
                _keep(reader)
                yield index, answer[0]
    finally:
        for reader in busy:
            reader.close()


def _keep(reader: _Reader) -> None:
    if reader.is_alive():
        with _lock:
            _idle.append(reader)
    else:
        reader.close()
