"""Own SIGINT, SIGTERM and SIGHUP: the first ends what a process does in its own way, the second ends it at once.

Neither shows a traceback. It imports nothing heavy, so that it is there before anything that is.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""All that a process answers, and keeps from its workers."""

_SECONDS_TO_NEXT_TRY = 0.05
_MAX_TRIES = 10

Answer = Callable[[int, FrameType | None], None]


class Interrupted(KeyboardInterrupt):
    """Raised where the process was when the signal ``number`` came."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _State:
    """What this process has received, and what it does about it: the last answer counts."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.answers: list[Answer] = []
        self.at_once: list[Callable[[], object]] = []
        self.command: Callable[[], str] | None = None
        self.is_next_a_retry = False
        self.num_tries = 0
        self.is_silent = False


_STATE = _State()


def received() -> int | None:
    """Return the signal that ends what this process does; None where none came."""
    return _STATE.received[0] if _STATE.received else None


def typed(*arguments: str) -> str:
    """Return the command that started this process, with ``arguments`` in place of its own."""
    begin = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    return shlex.join([*begin, *arguments])


def go_on_with(command: Callable[[], str]) -> None:
    """Let the last line name what ``command`` returns then; without it that is what started this process."""
    _STATE.command = command


def begin() -> None:
    """End this process with one line at the first signal, until something else is to be done at it.

    For the imports of a program, in which nothing is begun, and for its end.
    """
    answer_to_the_end(lambda number, frame: end_at_once())


@contextmanager
def quiet() -> Iterator[None]:
    """End the process with one line on stderr and exit code 128 + its number where a signal ends the block."""
    with raising():
        try:
            yield
        except BaseException as error:
            # Whatever a library made of the exception: what came first was the signal.
            number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else None
            if (number := received() or number) is None:
                raise
            print(_last_line(number), file=sys.stderr, flush=True)
            raise SystemExit(128 + number) from None


@contextmanager
def raising(at_once: Callable[[], object] | None = None) -> Iterator[None]:
    """Raise ``Interrupted`` in the block at the first signal; ``at_once`` as in ``answered``."""
    with answered(_raise_interrupted, at_once=at_once):
        yield


@contextmanager
def collected() -> Iterator[list[int]]:
    """Collect the first signal in a list instead of raising, for a block that looks at it and stops in its own way."""
    caught = list(_STATE.received)  # one that a library has swallowed counts
    with answered(lambda number, _: caught.append(number)):
        yield caught


@contextmanager
def answered(answer: Answer, *, at_once: Callable[[], object] | None = None) -> Iterator[None]:
    """Call ``answer`` with number and frame of the first signal while the block runs; at the second end the process.

    ``at_once`` is called before it ends: it records what must not be left unsaid. To be used in the main thread. What
    was received is forgotten where the outermost block ends.
    """
    with contextlib.nullcontext() if _STATE.answers else _installed():
        _STATE.answers.append(answer)
        _STATE.at_once.append(at_once or _nothing)
        try:
            yield
        finally:
            _STATE.answers.pop()
            _STATE.at_once.pop()


def answer_to_the_end(answer: Answer, *, is_silent: bool = False) -> None:
    """Call ``answer`` as ``answered`` does until this process ends; to be used before anything else is answered.

    With ``is_silent`` it ends without the line: another process says it.
    """
    _install()
    _STATE.is_silent = is_silent
    _STATE.answers.append(answer)
    _STATE.at_once.append(_nothing)


def _install() -> dict[signal.Signals, Any]:
    sys.unraisablehook = _on_unraisable
    # Under nohup the process is to outlive its terminal.
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
    """Record nothing."""


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
    """Record what must not be left unsaid, and end the process without unwinding anything."""
    number = received() or signal.SIGTERM
    for record in reversed(_STATE.at_once):
        with contextlib.suppress(OSError):  # a full disk is no reason to stay
            record()
    if not _STATE.is_silent:
        # Past Python's own buffer, in the middle of which the signal may have come.
        os.write(2, f"{_last_line(number)}\n".encode())
    os._exit(128 + number)


def _raise_interrupted(number: int, frame: FrameType | None) -> None:
    if not _is_importing(frame):
        raise Interrupted(number)
    # Modules in C turn it into an ImportError, or print it. Their import can take seconds.
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
    """Raise it again where it was raised in a destructor, from which nothing gets out."""
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
    # After the terminal's own ^C, and with its cursor, which a progress bar hides.
    begin = "\x1b[?25h\n" if sys.stderr is not None and os.isatty(2) else ""
    command = _STATE.command() if _STATE.command is not None else shlex.join(sys.orig_argv)
    return f"{begin}stopped by {name}. To go on: {command}"
