"""Apply image transforms and mirroring to a whole training batch on its device, with one random draw per window.

All cameras of a window get the same draw, as all its frames do: they see the same light and the same mirrored world.
Only the noise of ``GaussianNoise``, which is that of a sensor, is drawn for each image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Protocol

import torch

from mobile_vla.schema import Batch
from mobile_vla.streams import Stream


class Transform(Protocol):
    """A random change of a batch; one draw applies to all T frames of a window, in all V cameras.

    Images are floats in [0, 1], or may also be bytes if ``takes_bytes``: a transform that only moves pixels needs no
    conversion to floats, which would cost more than mirroring itself.
    """

    takes_bytes: ClassVar[bool]

    def __call__(self, batch: Batch, *, stream: Stream, step: int) -> Batch:
        """Return the changed batch; the same stream and step give the same change."""
        ...


class Augment(Protocol):
    """A function that augments a training batch on its device."""

    def __call__(self, batch: Batch, *, step: int) -> Batch:
        """Return the changed batch; the same step gives the same change."""
        ...


class Pipeline:
    """A sequence of transforms, in the order of the config; images stay uint8 until a transform needs floats."""

    def __init__(self, *, transforms: Mapping[str, Transform], stream: Stream) -> None:
        self.transforms = dict(transforms)
        self.stream = stream

    def __call__(self, batch: Batch, *, step: int) -> Batch:
        """Return ``batch`` augmented for ``step``; float images are clamped to [0, 1], absent frames set to zero."""
        for name, transform in self.transforms.items():
            if not transform.takes_bytes and not batch.images_BTVCYX.is_floating_point():
                batch = replace(batch, images_BTVCYX=batch.images_BTVCYX.float() / 255)
            batch = transform(batch, stream=self.stream.child(name), step=step)
        if not batch.images_BTVCYX.is_floating_point():
            return batch
        exists = batch.history_BT[:, :, None, None, None, None]
        return replace(batch, images_BTVCYX=torch.where(exists, batch.images_BTVCYX.clamp(0, 1), 0.0))
