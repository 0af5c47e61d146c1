"""Handle SIGINT, SIGTERM and SIGHUP: the first one ends the current work in an orderly way, the second one at once.

No traceback is shown. This module imports nothing heavy, so that it can be installed before the slow imports.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that a process handles, and that are blocked in its workers."""

_UNREAD = 128 + 13
"""Exit code where nobody reads the output: what a shell reports of a program that SIGPIPE ended."""

_SECONDS_TO_NEXT_TRY = 0.05
_MAX_TRIES = 10

SignalHandler = Callable[[int, FrameType | None], None]


class Interrupted(KeyboardInterrupt):
    """The signal ``number`` came; raised at the place in the code that was running then."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _State:
    """The signals that this process has received, and its handlers; only the last one in ``answers`` is called."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.answers: list[SignalHandler] = []
        self.at_once: list[Callable[[], object]] = []
        self.command: Callable[[], str] | None = None
        self.is_next_a_retry = False
        self.num_tries = 0
        self.is_silent = False


_STATE = _State()


def received() -> int | None:
    """Return the first signal that this process has received; None if there was none."""
    return _STATE.received[0] if _STATE.received else None


def this_program_with(*arguments: str) -> str:
    """Return the command that started this process, with ``arguments`` in place of its own arguments."""
    begin = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    return shlex.join([*begin, *arguments])


def go_on_with(command: Callable[[], str]) -> None:
    """Set the command in the last printed line to what ``command`` returns then.

    The default is the command that started this process.
    """
    _STATE.command = command


def begin() -> None:
    """Make the first signal end this process with one line, until ``answered`` or ``raising`` sets another handler.

    For the start of a program, while it imports and there is no work to stop, and for its end.
    """
    answer_to_the_end(lambda number, frame: end_at_once())


@contextmanager
def quiet() -> Iterator[None]:
    """End the process with one line on stderr, and exit code 128 + the signal's number, if a signal ends the block.

    The process ends without a word where nobody reads its output any more, as in ``... | head``.
    """
    with raising():
        try:
            try:
                yield
            finally:
                # Here, as Python's own flush at the end of the process could only print the error.
                if sys.stdout is not None and not sys.stdout.closed:
                    sys.stdout.flush()
        except BaseException as error:
            if isinstance(error, BrokenPipeError) and is_output_unread():
                _drop_output()
                raise SystemExit(_UNREAD) from None
            # A library may have replaced the exception by one of its own; if a signal came, it is the cause.
            number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else None
            if (number := received() or number) is None:
                raise
            print(_last_line(number), file=sys.stderr, flush=True)
            raise SystemExit(128 + number) from None


def is_output_unread() -> bool:
    """Return whether stdout is a pipe whose reader is gone, so that a ``BrokenPipeError`` comes from there."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no stdout, or none with a file
        return False


def _drop_output() -> None:
    """Let what is still in the buffer of stdout go nowhere: Python writes it at the end of the process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def raising(at_once: Callable[[], object] | None = None) -> Iterator[None]:
    """Raise ``Interrupted`` in the block at the first signal; for ``at_once`` see ``answered``."""
    with answered(_raise_interrupted, at_once=at_once):
        yield


@contextmanager
def collected() -> Iterator[list[int]]:
    """Add the first signal to a list instead of raising, for a block that checks the list and stops by itself."""
    caught = list(_STATE.received)  # also an earlier signal, whose exception a library has suppressed
    with answered(lambda number, _: caught.append(number)):
        yield caught


@contextmanager
def answered(answer: SignalHandler, *, at_once: Callable[[], object] | None = None) -> Iterator[None]:
    """Call ``answer`` with number and frame of the first signal in the block; end the process at the second one.

    Before the process ends, ``at_once`` is called: it must record that the work was stopped. Only the main thread may
    use this. The received signals are forgotten when the outermost block ends.
    """
    with contextlib.nullcontext() if _STATE.answers else _installed():
        _STATE.answers.append(answer)
        _STATE.at_once.append(at_once or _nothing)
        try:
            yield
        finally:
            _STATE.answers.pop()
            _STATE.at_once.pop()


def answer_to_the_end(answer: SignalHandler, *, is_silent: bool = False) -> None:
    """Call ``answer`` at the first signal until this process ends; call this before any ``answered`` block.

    With ``is_silent`` the process ends without printing the line, because another process prints it.
    """
    _install()
    _STATE.is_silent = is_silent
    _STATE.answers.append(answer)
    _STATE.at_once.append(_nothing)


def _install() -> dict[signal.Signals, Any]:
    sys.unraisablehook = _on_unraisable
    # An ignored signal stays ignored: nohup ignores SIGHUP so that the process survives its terminal. Only SIGINT is
    # always handled.
    wanted = [number for number in SIGNALS if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, _on_signal) for number in wanted}


@contextmanager
def _installed() -> Iterator[None]:
    hook, handlers = sys.unraisablehook, _install()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        _STATE.received.clear()
        _STATE.num_tries = 0
        _STATE.command = None


def _nothing() -> None:
    """Do nothing."""


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _STATE.is_next_a_retry:
        _STATE.is_next_a_retry = False
    elif _STATE.received:
        end_at_once()
    else:
        _STATE.received.append(number)
    answer = _STATE.answers[-1] if _STATE.answers else _raise_interrupted
    answer(number, frame)


def end_at_once() -> NoReturn:
    """Call the ``at_once`` functions of all open blocks, and end the process without running ``finally`` blocks."""
    number = received() or signal.SIGTERM
    for record in reversed(_STATE.at_once):
        with contextlib.suppress(OSError):  # the process must end even if the disk is full
            record()
    if not _STATE.is_silent:
        # Not with print: the signal may have come while Python was writing to the same buffer.
        os.write(2, f"{_last_line(number)}\n".encode())
    os._exit(128 + number)


def _raise_interrupted(number: int, frame: FrameType | None) -> None:
    if not _is_importing(frame):
        raise Interrupted(number)
    # Not raised during an import: modules written in C turn it into an ImportError, or only print it. The signal is
    # sent again until the import is over. It can take seconds, so the process ends after some tries; a worker does not,
    # because its parent ends it.
    _STATE.num_tries += 1
    if _STATE.num_tries > _MAX_TRIES and not _STATE.is_silent:
        end_at_once()
    _try_again(number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Send the signal again if ``Interrupted`` was raised in a destructor, because Python drops exceptions there."""
    if isinstance(unraisable.exc_value, Interrupted):
        _try_again(unraisable.exc_value.number)
    else:
        sys.__unraisablehook__(unraisable)


def _try_again(number: int) -> None:
    def send() -> None:
        _STATE.is_next_a_retry = True
        signal.pthread_kill(threading.main_thread().ident or 0, number)

    timer = threading.Timer(_SECONDS_TO_NEXT_TRY, send)
    timer.daemon = True
    timer.start()


def _last_line(number: int) -> str:
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    # On a terminal: show the cursor, which a progress bar hides, and start a new line after the ^C.
    begin = "\x1b[?25h\n" if sys.stderr is not None and os.isatty(2) else ""
    command = _STATE.command() if _STATE.command is not None else shlex.join(sys.orig_argv)
    return f"{begin}stopped by {name}. To go on: {command}"
