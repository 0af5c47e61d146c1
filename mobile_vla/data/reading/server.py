"""Read files in a process that may die: what ``mobile_vla.data.reading.process`` starts and talks to.

HDF5's C library crashes, loops or fills the memory on hostile bytes, and no check in Python keeps all of them out. This
process never opens a file itself. It forks a worker, which costs 2 ms where a fresh Python costs 150. The worker
answers requests until one fails; then the next is forked, so that a memory that one file spoilt never reads another.
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

from mobile_vla.data.reading.process import MAX_CPU_S, MAX_MEMORY_MIB, MAX_WAIT_S, Ended, Progress
from mobile_vla.errors import DataError, UserError

_CLOSED = 3
"""A worker's exit status when its pipe is closed: nobody asks any more."""


def serve(descriptor: int, parent: int, modules: str) -> None:
    """Fork one worker after the other until the pipe ``descriptor`` closes or the process ``parent`` is gone.

    ``modules``, separated by commas, are imported before the first fork, so that no worker does it again.
    """
    for module in modules.split(","):
        importlib.import_module(module)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and closes the pipe
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
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the bytes that end a worker are in the file: no core is needed
    if sys.platform != "linux":
        return  # macOS has no such limit
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = in_use + MAX_MEMORY_MIB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _wait(worker: int, parent: int) -> int:
    """Return the exit status of ``worker``, negative for a signal; end it where ``parent`` is gone.

    The closed pipe ends a worker as well, unless a process that the parent forked still holds it open.
    """

    def end_orphan(*_: object) -> None:
        if os.getppid() != parent:
            os.kill(worker, signal.SIGKILL)

    signal.signal(signal.SIGALRM, end_orphan)
    signal.setitimer(signal.ITIMER_REAL, 2.0, 2.0)
    _, status = os.waitpid(worker, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return os.waitstatus_to_exitcode(status)


def _work(connection: Connection) -> NoReturn:
    """Answer requests until one fails or the pipe closes."""
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
            except BaseException as error:  # the worker ends after each of them, and the parent raises it
                reply, failed = _for_parent(path, error), True
            _arm_timers(0, 0)  # none may fire inside a message
            connection.send(reply)
        status = 0
    except (EOFError, ConnectionError):
        status = _CLOSED
    except BaseException:
        traceback.print_exc()  # the parent shows the end of it
    finally:
        sys.stderr.flush()
        os._exit(status)  # without the clean-up of a library whose memory may be spoilt


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
        connection.send(Progress())
        _arm_timers(MAX_CPU_S, MAX_WAIT_S)


def _arm_timers(cpu_s: float, wait_s: float) -> None:
    """Let the kernel end this worker after so long (0: never): no code of ours runs while the C library loops."""
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
        f"{place.lineno}). If other tools read the file, this is a fault of ours: report it. Otherwise remove it."
    )


def needed_too_much(path: Path) -> str:
    """Return the message of a file whose reading needs more memory than a worker may have."""
    return (
        f"{path}: reading it needs more than {MAX_MEMORY_MIB} MiB of memory: it is damaged or hostile, or one chunk of "
        "it is that large. Write it again with one frame a chunk (h5repack does), or remove it."
    )
