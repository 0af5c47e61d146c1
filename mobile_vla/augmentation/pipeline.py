"""Apply image and mirror transforms to a training batch, in batch, on its device, one random draw a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Protocol

import torch

from mobile_vla.schema import Batch
from mobile_vla.streams import Stream


class Transform(Protocol):
    """Changes a batch; every draw is one a window, the same for its T frames.

    Images come as floats in [0, 1], or as bytes too where ``takes_bytes``: what moves pixels need not turn them to
    floats, which costs more than all of a mirror's work.
    """

    takes_bytes: ClassVar[bool]

    def __call__(self, batch: Batch, *, stream: Stream, step: int) -> Batch:
        """Return the changed batch; the same stream and step give the same change."""
        ...


class Augment(Protocol):
    """Changes a training batch on its device."""

    def __call__(self, batch: Batch, *, step: int) -> Batch:
        """Return the changed batch; the same step gives the same change."""
        ...


class Pipeline:
    """Runs its transforms in the order of the config; images stay uint8 as long as no transform needs floats."""

    def __init__(self, *, transforms: Mapping[str, Transform], stream: Stream) -> None:
        self.transforms = dict(transforms)
        self.stream = stream

    def __call__(self, batch: Batch, *, step: int) -> Batch:
        """Return ``batch`` augmented for ``step``; floats end up clamped to [0, 1], absent frames zero."""
        for name, transform in self.transforms.items():
            if not transform.takes_bytes and not batch.images_BTCYX.is_floating_point():
                batch = replace(batch, images_BTCYX=batch.images_BTCYX.float() / 255)
            batch = transform(batch, stream=self.stream.child(name), step=step)
        if not batch.images_BTCYX.is_floating_point():
            return batch
        exists = batch.history_BT[:, :, None, None, None]
        return replace(batch, images_BTCYX=torch.where(exists, batch.images_BTCYX.clamp(0, 1), 0.0))
