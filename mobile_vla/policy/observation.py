"""What robots show a policy: the images of its cameras and the state, checked and put into the order of its spec.

The robot's client uses this module as well, so it needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_vla.errors import UserError

Images = NDArray[np.uint8] | Mapping[str, NDArray[np.uint8]]
"""The images of the only camera, or of each camera by its name; cameras may have different sizes."""

State = NDArray[np.floating] | Sequence[float] | Mapping[str, float]
"""The state as numbers in the order of the spec, or by the name of each signal."""


def by_camera(image: object, cameras: Sequence[str], *, place: str = "image") -> dict[str, Any]:
    """Return what ``image`` holds for each of ``cameras``, in their order; ``UserError`` if it holds other ones.

    What is no mapping belongs to the only camera. ``place`` is how errors call ``image``.
    """
    if isinstance(image, Mapping):
        _check_names(image, cameras, place=place)
        return {camera: image[camera] for camera in cameras}
    if len(cameras) > 1:
        raise UserError(
            f"{place}: {_described(image)}; expected one array for each camera by its name, {_quoted(cameras)}"
        )
    return {cameras[0]: image}


def batch_of_images(image: Images, cameras: Sequence[str]) -> list[NDArray[np.uint8]]:
    """Return the images [B, Y, X, 3] of each of ``cameras`` in their order; ``UserError`` if they are not these."""
    found = by_camera(image, cameras)
    for camera, images in found.items():
        place = "image" if len(cameras) == 1 else f"image {camera!r}"
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise UserError(
                f"{place}: {_described(images)}; expected a uint8 array [Y, X, 3], or [B, Y, X, 3] with B instructions"
            )
        if not images.size:
            raise UserError(f"{place}: {list(images.shape)} has no pixels")
    if len({len(images) for images in found.values()}) > 1:
        counts = ", ".join(f"{len(images)} of {camera!r}" for camera, images in found.items())
        raise UserError(f"image: {counts}; expected one image of each camera for each robot")
    return list(found.values())


def batch_of_states(state: object, signals: Sequence[str], *, num_robots: int) -> NDArray[np.float32]:
    """Return the states [B, S] in the order of ``signals``; ``UserError`` if they are not these, or one is not finite.

    ``state`` is None exactly if there are no ``signals``; otherwise it is [B, S], or holds B numbers for each signal
    by its name.
    """
    if state is None:
        if signals:
            raise UserError(f"state: missing; expected numbers in the order of {_quoted(signals)}, or by name")
        return np.zeros((num_robots, 0), np.float32)
    if not signals:
        raise UserError("state: given, and this policy gets none; leave it out")
    if isinstance(state, Mapping):
        _check_names(state, signals, place="state")
    values = _numbers(state, signals)
    if values.shape != (num_robots, len(signals)):
        raise UserError(
            f"state: {list(values.shape)} numbers; expected [{num_robots}, {len(signals)}]: of each robot one for each "
            f"of {_quoted(signals)}"
        )
    if not np.isfinite(values).all():
        odd = [signal for signal, column in zip(signals, values.T, strict=True) if not np.isfinite(column).all()]
        raise UserError(f"state: {_quoted(odd)} is not finite; expected measured numbers")
    return values


def state_of_robot(state: object, signals: Sequence[str]) -> NDArray[np.float32] | None:
    """Return the state [S] of one robot in the order of ``signals``, None without any; see ``batch_of_states``."""
    values = batch_of_states(_with_batch(state), signals, num_robots=1)[0]
    return values if signals else None


def of_one_robot(image: Images, state: State | None) -> tuple[Any, Any]:
    """Return the image and the state of one robot as those of a batch of one."""
    return _with_batch(image), _with_batch(state)


def _with_batch(values: object) -> Any:
    if isinstance(values, Mapping):
        return {name: _with_batch(value) for name, value in values.items()}
    if hasattr(values, "__array__") or hasattr(values, "__array_interface__"):  # arrays, tensors, Pillow's images
        return np.asarray(values)[None]
    return None if values is None else [values]


def _numbers(state: object, signals: Sequence[str]) -> NDArray[np.float32]:
    try:
        by_name = state if isinstance(state, Mapping) else None
        values = np.stack([by_name[s] for s in signals], axis=-1) if by_name is not None else np.asarray(state)
        if values.dtype.kind in "biuf":
            with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, which is reported
                return values.astype(np.float32)
    except (ValueError, TypeError):  # numbers of different shapes
        pass
    raise UserError(
        "state: holds what is no number, or lists of different lengths; expected a number for each of "
        f"{_quoted(signals)}"
    )


def _check_names(given: Mapping[Any, object], expected: Sequence[str], *, place: str) -> None:
    if missing := [name for name in expected if name not in given]:
        raise UserError(f"{place}: lacks {_quoted(missing)}; expected {_quoted(expected)}")
    if odd := [name for name in given if name not in expected]:
        raise UserError(f"{place}: has {_quoted(odd)}, which this policy does not get; expected {_quoted(expected)}")


def _described(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def _quoted(names: Sequence[object]) -> str:
    """Return the first names in quotes, each shortened: they may come from anybody over the network."""
    shown = [repr(name)[:60] for name in names[:12]]
    return ", ".join([*shown, *([f"{len(names) - 12} more"] if len(names) > 12 else [])])
