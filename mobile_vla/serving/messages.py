"""Turn what robot and policy server tell each other into bytes and back.

Messages are msgpack; numpy arrays and scalars travel as openpi's ``msgpack_numpy`` writes them (maps with the byte keys
``__ndarray__`` or ``__npgeneric__``). Only numbers pass, never pickled objects. Errors are answers with the key
``error``, where openpi sends a text and hangs up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from reprlib import repr as shorten
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import UserError

SERVER_NAME = "mobile_vla"

PROTOCOL_VERSION = 1
"""Raise it when a message changes so that older clients or servers would misread it."""

MAX_MESSAGE_BYTES = 8 * 2**20
"""Admits one uncompressed 1920 x 1080 image (6.2 MB) with its instruction."""

NUM_LATENCIES = 1000
"""Latency figures are those of the newest so many answers."""

_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_NUMBERS_IN_WORDS = "booleans, integers of up to 8 bytes or floats of 2, 4 or 8"
_OBSERVATION = "{'image': uint8 array [Y, X, 3], 'instruction': text, 'reset': boolean (may be left out)}"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a robot sees now, ``image`` [Y, X, 3] uint8, its task, and whether an episode begins here."""

    image: NDArray[np.uint8]
    instruction: str
    reset: bool


def pack(message: object) -> bytes:
    """Write plain values and numeric numpy arrays as msgpack; ``UserError`` names a value that cannot be sent."""
    packer = msgpack.Packer(default=_encode)
    try:
        return bytes(packer.pack(message))
    except UserError:
        raise
    except (ValueError, OverflowError, TypeError) as error:
        raise UserError(f"message: cannot be sent as msgpack ({error})") from error


def unpack(frame: bytes | str) -> Any:
    """Read what ``pack`` or an openpi client wrote; arrays are read-only views of ``frame``.

    Raises ``UserError`` for text, malformed msgpack, an array whose bytes do not match its shape, or one of objects.
    """
    if isinstance(frame, str):
        raise UserError("message: is text; expected a binary message in msgpack")
    try:
        return msgpack.unpackb(frame, object_hook=_decode)
    except UserError:
        raise
    except (ValueError, msgpack.UnpackException) as error:
        raise UserError(
            f"message: {len(frame)} bytes that are not msgpack ({error}); expected one whole msgpack value"
        ) from error


def read_observation(frame: bytes | str) -> Observation:
    """Read a robot's message; ``UserError`` says what was given and what was expected."""
    message = unpack(frame)
    if not isinstance(message, dict):
        raise UserError(f"message: {_describe(message)}; expected a map {_OBSERVATION}")
    missing = [key for key in ("image", "instruction") if key not in message]
    unknown = [key for key in message if key not in ("image", "instruction", "reset")]
    if missing or unknown:
        problems = [f"lacks {key!r}" for key in missing]
        problems += [f"has the unknown key {shorten(key)}" for key in unknown[:3]]
        raise UserError(f"message: {', '.join(problems)}; expected {_OBSERVATION}")
    image, instruction, reset = message["image"], message["instruction"], message.get("reset", False)
    is_image = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    if not is_image or not image.size:
        raise UserError(f"image: {_describe(image)}; expected a uint8 array [Y, X, 3] of at least one pixel")
    if not isinstance(instruction, str):
        raise UserError(f"instruction: {_describe(instruction)}; expected a text")
    if not isinstance(reset, bool):
        raise UserError(f"reset: {_describe(reset)}; expected true or false")
    return Observation(image=image, instruction=instruction, reset=reset)


def summarise_ms(samples_ms: Collection[float]) -> dict[str, float] | None:
    """Return ``median``, ``p95`` and ``max`` of durations in milliseconds, or None where there are none."""
    if not samples_ms:
        return None
    median, p95, longest = np.percentile(list(samples_ms), [50, 95, 100])
    return {"median": round(float(median), 3), "p95": round(float(p95), 3), "max": round(float(longest), 3)}


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array {list(value.shape)}"
    return f"{type(value).__name__} {shorten(value)}"


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
        given = f"{len(data)} bytes" if isinstance(data, bytes) else _describe(data)
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
            return dtype.type(data)
    except (ValueError, OverflowError) as error:
        raise UserError(f"message: {shorten(data)} is no {dtype} ({error})") from error
    raise UserError(f"message: holds a {dtype} whose data are {_describe(data)}; expected a number")
