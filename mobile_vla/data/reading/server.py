"""The reading process: the program that ``mobile_vla.data.reading.process`` starts to read files in isolation.

HDF5's C library crashes, loops or fills the memory on hostile bytes, and no check in Python detects all of them. This
process never opens a file itself. It forks a worker, which takes 2 ms, where a new Python process takes 150 ms. The
worker answers requests until one fails; then the next worker is forked, so that memory which a bad file may have
corrupted is never used to read another file.
"""

from __future__ import annotations

import importlib
import inspect
import os
import resource
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from mobile_vla.data.reading.process import MAX_CPU_S, MAX_MEMORY_MIB, MAX_WAIT_S, Ended, ReadingProgress
from mobile_vla.errors import DataError, UserError

_CLOSED = 3
"""A worker's exit status when its pipe is closed: there will be no more requests."""


def serve(descriptor: int, parent: int, modules: str) -> None:
    """Fork one worker after the other until the pipe ``descriptor`` closes or the process ``parent`` has ended.

    ``modules``, separated by commas, are imported before the first fork, so that the workers need not import them.
    """
    for module in modules.split(","):
        importlib.import_module(module)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and closes the pipe
    _limit_memory()
    connection = Connection(descriptor)
    while True:
        worker = os.fork()
        if worker == 0:
            _work(connection)
        status = _wait(worker, parent)
        if status == _CLOSED or os.getppid() != parent:
            return
        if status != 0:
            connection.send(Ended(status=status))


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no core dumps: the file itself is enough to repeat a crash
    if sys.platform != "linux":
        return  # macOS has no such limit
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = in_use + MAX_MEMORY_MIB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _wait(worker: int, parent: int) -> int:
    """Wait for ``worker`` and return its exit status (negative: a signal); kill it where ``parent`` has ended.

    The closed pipe ends a worker too, unless another process that the parent forked still has it open.
    """

    def end_orphan(*_: object) -> None:
        # An orphan gets a new parent id at once; the process id of the ended parent may be in use again.
        if os.getppid() != parent:
            os.kill(worker, signal.SIGKILL)

    signal.signal(signal.SIGALRM, end_orphan)
    signal.setitimer(signal.ITIMER_REAL, 2.0, 2.0)
    _, status = os.waitpid(worker, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return os.waitstatus_to_exitcode(status)


def _work(connection: Connection) -> NoReturn:
    """Answer requests until one fails or the pipe closes, then exit."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    status = 1
    try:
        failed = False
        while not failed:
            work, path, arguments = connection.recv()
            reply: Any
            try:
                reply = _run(work, path, arguments, connection)
            except BrokenPipeError:
                raise
            except BaseException as error:  # the parent raises it; this worker ends, as its memory may be corrupted
                reply, failed = _for_parent(path, error), True
            _arm_timers(0, 0)  # a timer must not end the worker in the middle of a message
            connection.send(reply)
        status = 0
    except (EOFError, ConnectionError):
        status = _CLOSED
    except BaseException:
        traceback.print_exc()  # the parent shows the end of it in its message
    finally:
        sys.stderr.flush()
        os._exit(status)  # without clean-up: HDF5's exit handlers could crash on corrupted memory


def _run(work: Any, path: Path, arguments: tuple[Any, ...], connection: Connection) -> Any:
    _arm_timers(MAX_CPU_S, MAX_WAIT_S)
    result = work(path, *arguments)
    if not inspect.isgenerator(result):
        return result
    while True:
        try:
            next(result)
        except StopIteration as end:
            return end.value
        _arm_timers(0, 0)
        connection.send(ReadingProgress())
        _arm_timers(MAX_CPU_S, MAX_WAIT_S)


def _arm_timers(cpu_s: float, wait_s: float) -> None:
    """Set the kernel timers that end this worker (0: never).

    ITIMER_PROF counts processor time, ITIMER_REAL wall-clock time. Their signals end the process by default. A Python
    timer would not work, because no Python code runs while the C library loops.
    """
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    signal.setitimer(signal.ITIMER_REAL, wait_s)


def _for_parent(path: Path, error: BaseException) -> UserError:
    if isinstance(error, UserError):
        return error
    if isinstance(error, MemoryError):
        return DataError(needed_too_much(path))
    place = traceback.extract_tb(error.__traceback__)[-1]
    return DataError(
        f"{path}: reading it failed with {type(error).__name__}: {str(error)[:200]} ({Path(place.filename).name}:"
        f"{place.lineno}). If other tools read the file, this is a bug: please report it. Otherwise remove it."
    )


def needed_too_much(path: Path) -> str:
    """Return the error message for a file that needs more memory than a worker may have."""
    return (
        f"{path}: reading it needs more than {MAX_MEMORY_MIB} MiB of memory: it is damaged or hostile, or one chunk of "
        "it is that large. Write it again with one frame a chunk (h5repack does), or remove it."
    )
