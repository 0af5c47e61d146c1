"""Observations of robots: which keys a message has, and the checks of their values.

An observation has the keys of ``PolicyClient`` (``image``, ``instruction``, ``state``, ``reset``) or those of openpi's
clients (``observation/<camera>``, ``observation/state``, ``prompt`` and ``reset``). ``image`` is an array, or a map of
an array for each camera by its name; ``observation/image`` is the only or first camera where none has that name.
openpi's own ``reset()`` sends nothing, so for its clients an episode begins with the connection or with the key
``reset``. Other values that openpi's robots send under ``observation/``, and a state that the policy does not get, are
ignored.

The answer to a bad request is a map with the key ``error`` if the request had the keys of ``PolicyClient``. Otherwise
it is a text message, which openpi's clients raise as an error. Unlike openpi's server, this one then keeps the
connection open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import UserError
from mobile_vla.policy.observation import by_camera, state_of_robot
from mobile_vla.serving.messages import MAX_IMAGE_SIDE, MAX_TEXT_CHARACTERS, describe, shorten

_OWN_KEYS = ("image", "instruction", "reset")  # not the state: openpi's robots of other kinds send this key too
_OPENPI = "observation/"
_FIRST_CAMERA = f"{_OPENPI}image"
_IMAGE = "uint8 array [Y, X, 3]"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A robot's newest images [Y, X, 3] uint8 by camera, its state [S] and its instruction.

    ``state`` is None for a policy without state. With ``reset`` an episode begins with this observation. ``unused`` are
    the other keys that the robot sent.
    """

    images: Mapping[str, NDArray[np.uint8]]
    instruction: str
    reset: bool
    state: NDArray[np.float32] | None = None
    unused: tuple[str, ...] = ()


def is_in_own_keys(message: object) -> bool:
    """Return whether ``message`` has the keys of ``PolicyClient``, so that an error must be answered by a map."""
    return isinstance(message, dict) and not _is_in_openpi_keys(message) and any(key in message for key in _OWN_KEYS)


def _is_in_openpi_keys(message: dict[Any, Any]) -> bool:
    return any(isinstance(key, str) and (key == "prompt" or key.startswith(_OPENPI)) for key in message)


def read_observation(message: object, *, cameras: Sequence[str], signals: Sequence[str]) -> Observation:
    """Return the observation in the output of ``unpack``; ``UserError`` if it is not one or exceeds a limit.

    ``cameras`` and ``signals`` are the names of the policy's cameras and of its state.
    """
    is_openpi = isinstance(message, dict) and _is_in_openpi_keys(message)
    sent = message if isinstance(message, dict) else {}
    keys = _openpi_keys(sent, cameras, signals) if is_openpi else _own_keys(cameras, signals)
    expected = "{" + ", ".join(f"{key!r}: {value}" for key, value in keys.items()) + "}"
    if not isinstance(message, dict):
        raise UserError(f"message: {describe(message)}; expected a map {expected}")
    others = [key for key in message if key not in keys]
    unused = [key for key in others if is_openpi and isinstance(key, str) and key.startswith(_OPENPI)]
    problems = [f"lacks {key!r}" for key in keys if key not in message and key != "reset"]
    problems += [f"has the unknown key {shorten(key)}" for key in others if key not in unused][:3]
    if problems:
        raise UserError(f"message: {', '.join(problems)}; expected {expected}")
    if is_openpi:
        image_keys = dict(zip(keys, cameras, strict=False))
        images = {camera: _check_image(key, message[key]) for key, camera in image_keys.items()}
    else:
        found = by_camera(message["image"], cameras)
        is_map = isinstance(message["image"], dict)
        images = {
            camera: _check_image(f"image {camera!r}" if is_map else "image", image) for camera, image in found.items()
        }
    text_key = "prompt" if is_openpi else "instruction"
    return Observation(
        images=images,
        instruction=_check_instruction(text_key, message[text_key]),
        reset=_check_reset(message.get("reset", False)),
        state=state_of_robot(message[f"{_OPENPI if is_openpi else ''}state"], signals) if signals else None,
        unused=tuple(unused),
    )


def _own_keys(cameras: Sequence[str], signals: Sequence[str]) -> dict[str, str]:
    """Return the keys of an observation of ``PolicyClient``, each with a description of its value."""
    images = _IMAGE if len(cameras) == 1 else "{" + ", ".join(f"{camera!r}: {_IMAGE}" for camera in cameras) + "}"
    state = {"state": f"{len(signals)} numbers"} if signals else {}
    return {"image": images, "instruction": "text", **state, "reset": "boolean (may be left out)"}


def _openpi_keys(message: Mapping[Any, object], cameras: Sequence[str], signals: Sequence[str]) -> dict[str, str]:
    """Return the keys of an observation of openpi's clients, those of the cameras first and in their order."""
    keys = [f"{_OPENPI}{camera}" for camera in cameras]
    if keys[0] not in message and _FIRST_CAMERA not in keys:
        keys[0] = _FIRST_CAMERA
    state = {f"{_OPENPI}state": f"{len(signals)} numbers"} if signals else {}
    return {**dict.fromkeys(keys, _IMAGE), **state, "prompt": "text", "reset": "boolean (may be left out)"}


def _check_image(key: str, image: object) -> NDArray[np.uint8]:
    is_array = isinstance(image, np.ndarray)
    if not is_array or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(f"{key}: {describe(image)}; expected a uint8 array [Y, X, 3] of at least one pixel")
    if max(image.shape) > MAX_IMAGE_SIDE:
        raise UserError(f"{key}: {describe(image)}; expected at most {MAX_IMAGE_SIDE} rows and columns")
    return image


def _check_instruction(key: str, instruction: object) -> str:
    if not isinstance(instruction, str):
        raise UserError(f"{key}: {describe(instruction)}; expected a text")
    if len(instruction) > MAX_TEXT_CHARACTERS:
        raise UserError(f"{key}: a text of {len(instruction)} characters; expected at most {MAX_TEXT_CHARACTERS}")
    return instruction


def _check_reset(reset: object) -> bool:
    if not isinstance(reset, bool):
        raise UserError(f"reset: {describe(reset)}; expected true or false")
    return reset
