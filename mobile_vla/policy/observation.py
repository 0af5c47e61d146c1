"""What robots show a policy: the images of its cameras and the state, checked against its spec and put in its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import UserError
from mobile_vla.spec import Spec

Images = NDArray[np.uint8] | Mapping[str, NDArray[np.uint8]]
"""The images of one camera, or of each camera by its name; cameras may have different sizes."""

State = NDArray[np.floating] | Sequence[float] | Mapping[str, float]
"""The state as numbers in the order of the spec, or by the name of each signal."""


def ordered_images(image: Images, spec: Spec) -> list[NDArray[np.uint8]]:
    """Return the images [B, Y, X, 3] of each camera in the order of ``spec``; ``UserError`` if they are not these.

    An array is that of the only camera.
    """
    names = spec.camera_names
    if not isinstance(image, Mapping):
        if len(names) > 1:
            raise UserError(
                f"image: one array; expected one for each camera by its name, {{{_quoted(names)}: array ...}}, because "
                f"this policy sees {len(names)} cameras"
            )
        return [_checked_images(image, "image")]
    if missing := [name for name in names if name not in image]:
        raise UserError(f"image: lacks {_quoted(missing)}; expected the images of {_quoted(names)}")
    if odd := [name for name in image if name not in names]:
        raise UserError(f"image: has {_quoted(odd)}, which is no camera of this policy; expected {_quoted(names)}")
    found = [_checked_images(image[name], f"image {name!r}") for name in names]
    if len({len(images) for images in found}) > 1:
        counts = ", ".join(f"{len(images)} of {name!r}" for name, images in zip(names, found, strict=True))
        raise UserError(f"image: {counts}; expected one image of each camera for each robot")
    return found


def ordered_state(state: object, spec: Spec, *, num_robots: int) -> NDArray[np.float32]:
    """Return the states [B, S] in the order of ``spec``; ``UserError`` if they are not these, or one is not finite.

    ``state`` is None exactly for a policy without state, [B, S] numbers, or for each signal by name B numbers.
    """
    names = spec.state_names
    if state is None:
        if names:
            raise UserError(f"state: missing; expected numbers in the order of {_quoted(names)}, or by name")
        return np.zeros((num_robots, 0), np.float32)
    if not names:
        raise UserError("state: given, and this policy gets none; leave it out")
    if isinstance(state, Mapping):
        if missing := [name for name in names if name not in state]:
            raise UserError(f"state: lacks {_quoted(missing)}; expected {_quoted(names)}")
        if odd := [name for name in state if name not in names]:
            raise UserError(f"state: has {_quoted(odd)}, which is no input of this policy; expected {_quoted(names)}")
        state = [np.asarray(state[name]) for name in names]
        if len({values.shape for values in state}) == 1:
            state = np.stack(state, axis=-1)
    try:
        values = np.asarray(state, np.float32)
    except (ValueError, TypeError) as error:
        raise UserError(f"state: no numbers ({error}); expected one for each of {_quoted(names)}") from error
    if values.shape != (num_robots, len(names)):
        raise UserError(
            f"state: shape {list(values.shape)}; expected [{num_robots}, {len(names)}]: for each robot one number for "
            f"each of {_quoted(names)}"
        )
    if not np.isfinite(values).all():
        odd = [name for name, column in zip(names, values.T, strict=True) if not np.isfinite(column).all()]
        raise UserError(f"state: {_quoted(odd)} is not finite; expected a measured number")
    return values


def of_one_robot(image: Images, state: State | None) -> tuple[Images, Any]:
    """Return the image and the state of a single robot as those of a batch of one."""
    if isinstance(image, Mapping):
        image = {name: np.asarray(view)[None] for name, view in image.items()}
    else:
        image = np.asarray(image)[None]
    if isinstance(state, Mapping):
        return image, {name: np.asarray(value)[None] for name, value in state.items()}
    return image, None if state is None else np.asarray(state)[None]


def _checked_images(images: object, place: str) -> NDArray[np.uint8]:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        given = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
        raise UserError(f"{place}: {given}; expected a uint8 array [Y, X, 3], or [B, Y, X, 3] with B instructions")
    if not images.size:
        raise UserError(f"{place}: {list(images.shape)} has no pixels")
    return images


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
