"""The messages between robots and the policy server, as bytes: encoding, decoding and limits.

Messages are msgpack. Numpy arrays and scalars are encoded as in openpi's ``msgpack_numpy`` (maps with the byte keys
``__ndarray__`` or ``__npgeneric__``). Only numbers are accepted, never pickled objects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from reprlib import Repr
from typing import Any, Never

import msgpack
import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import UserError

SERVER_NAME = "mobile_vla"

PROTOCOL_VERSION = 1
"""Increase it when a message changes in a way that older clients or servers would misread."""

MAX_MESSAGE_BYTES = 8 * 2**20
"""Limit for each camera: enough for one uncompressed 1920 x 1080 image (6.2 MB) with the instruction.

It also limits an image's pixels.
"""

MAX_IMAGE_SIDE = 4096
"""Limit for rows and for columns: an image of 2,000,000 x 1 pixels fits into a message, but its resize takes 0.1 s."""

MAX_TEXT_CHARACTERS = 2000
"""Limit for instructions and errors: the time of a prediction grows with the text, and the other robots wait."""

_MAX_CONTAINERS = 256
_MAX_LIST = 1024
_MAX_MAP = 64
"""Limits for lists and maps in a message: an observation of a dozen arrays has 25; millions take seconds to build."""

NUM_LATENCIES = 1000
"""Number of newest answers over which latencies are summarised."""

_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_NUMBERS_IN_WORDS = "booleans, integers of up to 8 bytes or floats of 2, 4 or 8"


class _Shortener(Repr):
    """A short ``repr`` of a value for messages; the built-in one would first format all 8 MB of an image."""

    def repr_bytes(self, value: bytes, level: int) -> str:
        return f"{len(value)} bytes"

    def repr_ndarray(self, value: NDArray[Any], level: int) -> str:
        return f"{value.dtype} array {list(value.shape)}"


shorten = _Shortener().repr
"""Return a short ``repr`` of a value."""


def describe(value: object) -> str:
    """Return a short description of ``value`` for messages: its type and, shortened, its content."""
    return shorten(value) if isinstance(value, np.ndarray | bytes) else f"{type(value).__name__} {shorten(value)}"


def pack(message: object) -> bytes:
    """Return plain values and numeric numpy arrays as msgpack; ``UserError`` names a value that cannot be sent."""
    packer = msgpack.Packer(default=_encode)
    try:
        return bytes(packer.pack(message))
    except UserError:
        raise
    except (ValueError, OverflowError, TypeError) as error:
        raise UserError(f"message: cannot be sent as msgpack ({error})") from error


def unpack(frame: bytes | str) -> Any:
    """Return the message that ``pack`` or an openpi client wrote; arrays are read-only views of ``frame``.

    Raises ``UserError`` for text, malformed msgpack, an array of objects, an array whose bytes do not match its shape,
    and more lists, maps or items than a robot's message has.
    """
    if isinstance(frame, str):
        raise UserError("message: is text; expected a binary message in msgpack")
    count = _ContainerCount()
    try:
        return msgpack.unpackb(
            frame,
            object_hook=count.decode_map,
            list_hook=count.pass_list,
            ext_hook=_refuse_extension,
            max_array_len=_MAX_LIST,
            max_map_len=_MAX_MAP,
        )
    except UserError:
        raise
    except (ValueError, msgpack.UnpackException) as error:
        raise UserError(
            f"message: {len(frame)} bytes that cannot be read as msgpack ({error}); expected one whole msgpack value, "
            f"its lists of at most {_MAX_LIST} and its maps of at most {_MAX_MAP} items"
        ) from error


def summarise_ms(samples_ms: Collection[float]) -> dict[str, float] | None:
    """Return ``median``, ``p95`` and ``max`` of durations in milliseconds, or None where there are none."""
    if not samples_ms:
        return None
    median, p95, longest = np.percentile(list(samples_ms), [50, 95, 100])
    return {"median": round(float(median), 3), "p95": round(float(p95), 3), "max": round(float(longest), 3)}


class _ContainerCount:
    """A decoder for the maps of one message that also counts its maps and lists."""

    def __init__(self) -> None:
        self._num_seen = 0

    def decode_map(self, value: dict[Any, Any]) -> object:
        self._count()
        return _decode(value)

    def pass_list(self, value: list[Any]) -> list[Any]:
        self._count()
        return value

    def _count(self) -> None:
        self._num_seen += 1
        if self._num_seen > _MAX_CONTAINERS:
            raise UserError(f"message: holds more than {_MAX_CONTAINERS} lists and maps; expected an observation")


def _refuse_extension(code: int, data: bytes) -> Never:
    raise UserError(
        f"message: holds {len(data)} bytes of msgpack's extension type {code}; expected texts, numbers, lists, maps or "
        "numpy arrays"
    )


def _encode(value: object) -> dict[bytes, object]:
    if not isinstance(value, np.ndarray | np.generic):
        raise UserError(
            f"message: a {type(value).__name__} cannot be sent; expected texts, numbers, lists, dicts or numpy arrays"
        )
    if not _NUMBERS.fullmatch(value.dtype.str):
        raise UserError(f"message: an array of {value.dtype} cannot be sent; expected {_NUMBERS_IN_WORDS}")
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}


def _decode(value: dict[Any, Any]) -> object:
    if b"__ndarray__" in value:
        return _decode_array(_read_dtype(value), value.get(b"shape"), value.get(b"data"))
    if b"__npgeneric__" in value:
        return _decode_scalar(_read_dtype(value), value.get(b"data"))
    return value


def _read_dtype(value: dict[Any, Any]) -> np.dtype[Any]:
    name = value.get(b"dtype")
    if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
        raise UserError(f"message: holds an array of dtype {shorten(name)}; expected {_NUMBERS_IN_WORDS}, such as |u1")
    return np.dtype(name)


def _decode_array(dtype: np.dtype[Any], shape: object, data: object) -> NDArray[Any]:
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise UserError(f"message: holds an array of shape {shorten(shape)}; expected a list of lengths")
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        given = f"{len(data)} bytes" if isinstance(data, bytes) else describe(data)
        raise UserError(
            f"message: holds an array of {dtype} {shorten(shape)} whose data are {given}; expected as many bytes as "
            "dtype and shape ask for"
        )
    try:
        return np.ndarray(shape, dtype, data)
    except (ValueError, OverflowError) as error:
        raise UserError(f"message: holds an array of shape {shorten(shape)}, which numpy refuses ({error})") from error


def _decode_scalar(dtype: np.dtype[Any], data: object) -> object:
    try:
        if isinstance(data, bool | int | float):
            with np.errstate(over="raise"):  # else numpy turns a too large number into infinity with a warning
                return dtype.type(data)
    except (ValueError, ArithmeticError) as error:
        raise UserError(f"message: {shorten(data)} is no {dtype} ({error})") from error
    raise UserError(f"message: holds a {dtype} whose data are {describe(data)}; expected a number")
