"""Apply image and mirror transforms to a training batch, in batch, on its device, one random draw a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import torch

from mobile_vla.schema import Batch
from mobile_vla.streams import Stream


class Transform(Protocol):
    """Changes a batch of float images, full range [0, 1]; every draw is one a window, the same for its T frames."""

    def __call__(self, batch: Batch, *, stream: Stream, step: int) -> Batch:
        """Return the changed batch; the same stream and step give the same change."""
        ...


class Pipeline:
    """Runs its transforms in the order of the config; without any a batch passes untouched, its images still uint8."""

    def __init__(self, *, transforms: Mapping[str, Transform], stream: Stream) -> None:
        self._transforms = dict(transforms)
        self._stream = stream

    def __call__(self, batch: Batch, *, step: int) -> Batch:
        """Return ``batch`` augmented for ``step``: images clamped to [0, 1] at the end, absent frames still zero."""
        if not self._transforms:
            return batch
        batch = replace(batch, images_BTCYX=batch.images_BTCYX.float() / 255)
        for name, transform in self._transforms.items():
            batch = transform(batch, stream=self._stream.child(name), step=step)
        exists = batch.history_BT[:, :, None, None, None]
        return replace(batch, images_BTCYX=torch.where(exists, batch.images_BTCYX.clamp(0, 1), 0.0))
