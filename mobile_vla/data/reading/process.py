"""Reading of files in separate processes, so that no file can crash, block or exhaust the training process.

HDF5's C library can crash, loop or allocate without limit on damaged or hostile files; see ``reading.server``.
"""

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
"""Limit of the processor time without progress; a block of frames takes a tenth of it.

It is this low because one bad file must not take 5 s of wall-clock time.
"""

MAX_WAIT_S = 60.0
"""Limit of the wall-clock time without progress. It is much longer, because a slow disk does not mean a bad file."""

MAX_MEMORY_MIB = 768
"""Limit of the memory that a worker adds to its memory at the start (below 100 MiB): the sum stays below 1 GB."""

_PRELOADED = "mobile_vla.data.frames,mobile_vla.data.sources.hdf5.source"

# The process gets this one's import path, and not its working folder (-P), which may contain a file such as numpy.py.
_START = """
import json, sys
descriptor, parent, path, modules = sys.argv[1:]
sys.path[:] = json.loads(path)
from mobile_vla.data.reading.server import serve
serve(int(descriptor), int(parent), modules)
"""


@dataclass(frozen=True, kw_only=True)
class ReadingProgress:
    """The message that a reading process has finished one more block of its file."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The message that a worker ended with exit status ``status`` (negative: a signal) and that the next is ready."""

    status: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """A call ``work(path, *arguments)`` for a reading process; ``work`` must be a module-level function.

    If ``work`` is a generator, each yield reports progress and its return value is the answer. Arguments and answer are
    pickled.
    """

    work: Callable[..., Any]
    path: Path
    arguments: tuple[Any, ...] = ()


class _Reader:
    """One reading process, the pipe to it, and its current request."""

    def __init__(self) -> None:
        self.is_whole = True
        self._num_answered = 0
        self._request: Request | None = None
        try:
            self.connection, theirs = multiprocessing.Pipe()
            # A file and not a pipe for stderr: nothing reads it while the process runs, and a full pipe would block it.
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (it must stay open as long as the process runs)
            path = json.dumps([str(place) for place in sys.path if place])
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(theirs.fileno()), str(os.getpid()), path, _PRELOADED],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # it forks, and a fork copies only the calling thread
                process_group=0,  # so that its worker is ended with it
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
        """End the process and its worker, which may be writing to a folder that is removed next."""
        self.connection.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._errors.close()

    def send(self, request: Request) -> None:
        """Send ``request`` to the process."""
        self._request = request
        self.connection.send((request.work, request.path, request.arguments))

    def receive(self) -> tuple[Any] | None:
        """Return the answer of the process in a tuple, or None where it has not finished yet.

        The tuple tells an answer that is None from no answer.
        """
        assert self._request is not None
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionError) as error:
            raise UserError(
                f"{self._request.path}: the process that reads episode files ended (exit status "
                f"{self._process.wait()}). Start again.\n{self._last_words()}"
            ) from error
        except Exception as error:  # a worker with corrupted memory can send bytes on which pickle raises anything
            self.is_whole = False
            return (DataError(f"{self._request.path}: reading it corrupted its reader ({error}). {_REMOVE}"),)
        if isinstance(message, ReadingProgress):
            return None
        if not isinstance(message, Ended):
            self._num_answered = 0 if isinstance(message, UserError) else self._num_answered + 1
            return (message,)
        if self._num_answered and -message.status in _CRASHES:
            # An earlier file may have corrupted the worker's memory, so this crash does not prove that the current file
            # is bad: a new worker tries it again.
            self._num_answered = 0
            self.send(self._request)
            return None
        self._num_answered = 0
        return (self._describe_end(self._request.path, message.status),)

    def give_up(self) -> tuple[DataError]:
        """Return the error for a process that the kernel's timer did not end, because it is blocked by a disk."""
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
"""Readers without a request. They are kept for the next call because starting one takes 0.2 s."""

_lock = threading.Lock()


def _forget_readers() -> None:
    """Clear the list of readers in a forked child, because their pipes belong to the parent."""
    _idle.clear()


os.register_at_fork(after_in_child=_forget_readers)


@atexit.register
def close_readers() -> None:
    """End the idle reading processes; the next request starts new ones."""
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
    """Return ``work(path, *arguments)``, called in a reading process; raise ``DataError`` for an unusable file."""
    [(_, answer)] = ask_each([Request(work=work, path=path, arguments=arguments)], num_processes=1)
    if isinstance(answer, DataError):
        raise answer
    return answer


def ask_each(requests: Sequence[Request], *, num_processes: int) -> Iterator[tuple[int, Any]]:
    """Yield the index of each request with its answer or its ``DataError``, in the order in which they finish.

    ``num_processes`` processes (0 counts as 1) work in parallel. Any other ``UserError`` (a full disk) is raised, and
    the processes that are still busy are ended.
    """
    waiting = list(enumerate(requests))[::-1]  # reversed, because pop() takes the last: requests start in order
    busy: dict[_Reader, int] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < max(num_processes, 1):
                index, request = waiting.pop()
                reader = _take_reader()
                busy[reader] = index
                reader.send(request)
            # Twice the time limit of a worker: the kernel's timer has ended every worker by then, except one that is
            # blocked inside the kernel (a dead network disk).
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
