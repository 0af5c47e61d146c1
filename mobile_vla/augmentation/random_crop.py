"""Crop a random part of the image and resize it to the full size, to simulate another camera position."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch.nn import functional

from mobile_vla.schema import Batch
from mobile_vla.streams import Stream


@dataclass(frozen=True, kw_only=True)
class RandomCrop:
    """A random crop whose sides are a share of the image's, uniform in [``scale_min``, 1], at a uniform position.

    All cameras get the same crop.
    """

    takes_bytes: ClassVar[bool] = False

    scale_min: Annotated[float, Field(gt=0, le=1)]

    def __call__(self, batch: Batch, *, stream: Stream, step: int) -> Batch:
        """See ``Transform``."""
        images = batch.images_BTVCYX
        random = stream.at(step)
        scale = random.uniform(self.scale_min, 1, len(batch))
        centre_x, centre_y = random.uniform(-1, 1, (2, len(batch))) * (1 - scale)
        # In the coordinates of ``affine_grid`` the image is [-1, 1]: a centre within 1 - scale keeps the crop inside.
        theta = torch.zeros(len(batch), 2, 3, dtype=images.dtype)
        theta[:, 0, 0] = theta[:, 1, 1] = torch.as_tensor(scale, dtype=images.dtype)
        theta[:, 0, 2] = torch.as_tensor(centre_x, dtype=images.dtype)
        theta[:, 1, 2] = torch.as_tensor(centre_y, dtype=images.dtype)
        num_images = images.shape[1] * images.shape[2]
        flat = images.flatten(0, 2)
        grid = functional.affine_grid(
            theta.repeat_interleave(num_images, 0).to(images.device), list(flat.shape), align_corners=False
        )
        cropped = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return replace(batch, images_BTVCYX=cropped.unflatten(0, images.shape[:3]))
