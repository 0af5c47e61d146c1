"""Add sensor noise to every pixel; the strength is drawn once for each window, the noise separately for each image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from pydantic import NonNegativeFloat

from mobile_vla.schema import Batch
from mobile_vla.streams import Stream


@dataclass(frozen=True, kw_only=True)
class GaussianNoise:
    """Gaussian noise with a standard deviation uniform in [0, ``std_max``], in units of the full range."""

    takes_bytes: ClassVar[bool] = False

    std_max: NonNegativeFloat

    def __call__(self, batch: Batch, *, stream: Stream, step: int) -> Batch:
        """See ``Transform``."""
        images = batch.images_BTVCYX
        std = torch.as_tensor(stream.at(step).uniform(0, self.std_max, len(batch)), dtype=images.dtype)
        # Drawn on the device: a torch generator, seeded by the stream, because numpy's noise would have to be copied.
        generator = torch.Generator(images.device).manual_seed(stream.child("pixels").integer(step))
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        return replace(batch, images_BTVCYX=images + noise * std.to(images.device)[:, None, None, None, None, None])
