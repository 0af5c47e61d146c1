"""Image preprocessing equal to that of a pretrained model's own processor, but batched and on the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Resampling

from mobile_vla.errors import ConfigError

Size = tuple[int, int]
"""Rows and columns, in pixels."""


class ImageProcessor(Protocol):
    """The settings that the image processors of all families have in transformers."""

    size: Mapping[str, int]
    resample: int
    image_mean: Sequence[float]
    image_std: Sequence[float]


class Preprocessing:
    """Resizing, cropping and normalisation of images [N, 3, Y, X], equal to that of the given ``processor``.

    Pillow's resampling is linear along each axis, and so is a crop: the processor's whole sequence is one matrix for
    the rows and one for the columns. ``resizes`` are the sizes that a frame of ``recorded`` size is resized to, one
    after the other. uint8 images are rounded to whole levels as Pillow rounds them; floats in [0, 1] are not. Raises
    ``ConfigError`` for an unknown resampling filter.
    """

    def __init__(self, processor: ImageProcessor, *, recorded: Size, resizes: Sequence[Size], crop: Size) -> None:
        self.size = crop
        rows, columns = (
            _axis_matrix(
                (recorded[axis], *(size[axis] for size in resizes)), crop=crop[axis], resample=processor.resample
            )
            for axis in (0, 1)
        )
        passes = [("oi,ncyi->ncyo", columns), ("oi,ncix->ncox", rows)]
        resized = resizes[-1]
        if resized[0] < recorded[0] and resized[0] * recorded[1] < recorded[0] * resized[1]:
            passes.reverse()  # as Pillow does if rows shrink more; the order matters, as levels are rounded in between
        self._passes = [(axes, matrix) for axes, matrix in passes if matrix is not None]
        self._mean = torch.tensor(processor.image_mean)[:, None, None]
        self._std = torch.tensor(processor.image_std)[:, None, None]

    def to(self, device: torch.device) -> Preprocessing:
        """Move all matrices to ``device`` in place, and return the preprocessing itself."""
        self._passes = [(axes, matrix.to(device)) for axes, matrix in self._passes]
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def __call__(self, images_NCYX: torch.Tensor) -> torch.Tensor:
        """Return float32 pixels [N, 3, *size]; autocast is off, as half precision would change the rounded levels."""
        with torch.autocast(images_NCYX.device.type, enabled=False):
            return self._prepare(images_NCYX)

    def _prepare(self, images_NCYX: torch.Tensor) -> torch.Tensor:
        is_bytes = images_NCYX.dtype == torch.uint8
        levels = images_NCYX.float() if is_bytes else images_NCYX * 255
        for axes, matrix in self._passes:
            levels = torch.einsum(axes, matrix, levels).clamp_(0, 255)
            levels = levels.add_(0.5).floor_() if is_bytes else levels
        return (levels / 255 - self._mean) / self._std


def _axis_matrix(lengths: Sequence[int], *, crop: int, resample: int) -> torch.Tensor | None:
    """Return the matrix [crop, lengths[0]] that resizes through all ``lengths`` in turn and crops the middle.

    None if it would change nothing.
    """
    matrix = np.eye(lengths[0])
    for num_in, num_out in pairwise(lengths):
        if num_in != num_out:
            matrix = resampling_matrix(num_in, num_out, Resampling(resample)) @ matrix
    first = (len(matrix) - crop) // 2
    if first < 0:
        raise ConfigError(
            f"the image processor crops to {crop} pixels after it resized to {len(matrix)}; expected less"
        )
    matrix = matrix[first : first + crop]
    if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix))):
        return None
    return torch.from_numpy(matrix.astype(np.float32))


@lru_cache(maxsize=32)
def resampling_matrix(num_in: int, num_out: int, resample: Resampling) -> NDArray[np.float64]:
    """Return the weights [num_out, num_in] by which Pillow resizes one axis (its ``precompute_coeffs``)."""
    if resample not in _FILTERS:
        known = ", ".join(method.name.lower() for method in _FILTERS)
        raise ConfigError(f"the image processor resizes with {resample.name.lower()}; expected one of {known}")
    function, support = _FILTERS[resample]
    scale = num_in / num_out
    stretch = max(scale, 1.0)  # when shrinking, the filter widens to average over all input pixels
    centres = (np.arange(num_out) + 0.5) * scale
    first = np.maximum((centres - support * stretch + 0.5).astype(int), 0)[:, None]
    last = np.minimum((centres + support * stretch + 0.5).astype(int), num_in)[:, None]
    pixels = np.arange(num_in)
    weights = function((pixels + 0.5 - centres[:, None]) / stretch)
    weights = np.where((pixels >= first) & (pixels < last), weights, 0)
    return weights / weights.sum(1, keepdims=True)


def _bilinear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1 - np.abs(x), 0)


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the kernel of Keys (1981) with a = -0.5, which Pillow uses."""
    x = np.abs(x)
    return np.where(x < 1, (1.5 * x - 2.5) * x**2 + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


_FILTERS = {
    Resampling.BILINEAR: (_bilinear, 1.0),
    Resampling.BICUBIC: (_bicubic, 2.0),
    Resampling.LANCZOS: (_lanczos, 3.0),
}
