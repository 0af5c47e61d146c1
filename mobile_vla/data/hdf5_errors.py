"""Say in words for people what h5py found in a file, or what kept it from reading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import h5py

from mobile_vla.errors import DataError

_H5PY_ERRORS = (OSError, KeyError, RuntimeError, TypeError, ValueError)
"""What h5py raises on damaged files, as flipping every byte of one showed."""


@contextmanager
def report_damage(finding: str) -> Iterator[None]:
    """Turn what h5py raises inside the block into a ``DataError`` that begins with ``finding``."""
    try:
        yield
    except DataError:
        raise
    except _H5PY_ERRORS as error:
        cause = (str(error).strip("'").splitlines() or [type(error).__name__])[0]
        raise DataError(f"{finding} ({cause}). Copy the file again or remove it.") from error


def describe(node: h5py.Dataset | h5py.Group | h5py.Datatype) -> str:
    """Say what stands at a key, for messages."""
    if isinstance(node, h5py.Dataset):
        kind = node.dtype if h5py.check_string_dtype(node.dtype) is None else "text"
        return f"{'empty' if node.shape is None else list(node.shape)} {kind}"
    return f"a {type(node).__name__.lower()}, not a data set"
