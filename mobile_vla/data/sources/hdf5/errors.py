"""Error messages for what h5py found in a file, or for what prevented it from reading."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import h5py

from mobile_vla.data.sources.errors import outside_cause
from mobile_vla.errors import DataError, UnreadableNowError

_H5PY_ERRORS = (OSError, KeyError, RuntimeError, TypeError, ValueError, zlib.error)
"""The exceptions of h5py and zlib on damaged files, found by changing every byte of a file in turn."""


@contextmanager
def report_damage(finding: str) -> Iterator[None]:
    """Convert the exceptions of h5py inside the block to a ``DataError`` that begins with ``finding``.

    ``finding`` has the form "PATH: what is wrong". Where the cause is outside the file, the error is an
    ``UnreadableNowError`` with that cause instead, so that a good file is never called corrupt.
    """
    try:
        yield
    except DataError:
        raise
    except _H5PY_ERRORS as error:
        remedy = outside_cause(error)
        if remedy is not None:
            path, _, rest = finding.partition(": ")
            key = f"{rest.split(' cannot')[0]}, " if rest.startswith("key ") else ""
            raise UnreadableNowError(f"{path}: {key}{remedy}.") from error
        cause = (str(error).strip("'").splitlines() or [type(error).__name__])[0]
        raise DataError(f"{finding} ({cause}). Copy the file again or remove it.") from error


def describe(node: h5py.Dataset | h5py.Group | h5py.Datatype) -> str:
    """Return a short description of the object at a key, for error messages."""
    if isinstance(node, h5py.Dataset):
        kind = node.dtype if h5py.check_string_dtype(node.dtype) is None else "text"
        return f"{'empty' if node.shape is None else list(node.shape)} {kind}"
    return f"a {type(node).__name__.lower()}, not a data set"
