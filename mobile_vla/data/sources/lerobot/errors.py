"""Error messages for what pyarrow and PyAV found in a file, or for what prevented them from reading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mobile_vla.data.sources.errors import outside_cause
from mobile_vla.errors import DataError, UnreadableNowError, UserError

_READER_ERRORS = (OSError, ValueError, KeyError, IndexError, RuntimeError, TypeError, EOFError, ArithmeticError)
"""The exceptions of pyarrow on damaged files, found by changing bytes of files; PyAV has others besides."""


@contextmanager
def report_damage(path: object, finding: str, *, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Convert the exceptions of a reader inside the block to a ``DataError`` "PATH: FINDING (cause)".

    ``also`` are exceptions of the reader beside the built-in ones. Where the cause is outside the file, the error is an
    ``UnreadableNowError`` with that cause instead, so that a good file is never called corrupt.
    """
    try:
        yield
    except DataError:
        raise
    except UserError as error:  # a named pipe, a device
        raise DataError(str(error)) from error
    except (*_READER_ERRORS, *also) as error:
        if (remedy := outside_cause(error)) is not None:
            raise UnreadableNowError(f"{path}: {remedy}.") from error
        cause = (str(error).strip("'").splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{path}: {finding} ({cause}). Copy the file again or remove it.") from error
