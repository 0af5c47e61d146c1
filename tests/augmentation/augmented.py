"""Give augmentation tests one batch with all a batch can hold: sides, padding, every pixel different."""

from __future__ import annotations

import numpy as np
import torch

from mobile_vla.schema import Batch
from mobile_vla.streams import Stream

STREAM = Stream(3, "augmentation")


def batch_of(
    *, num_windows: int = 5, num_frames: int = 3, num_actions: int = 3, is_float: bool = True, num_cameras: int = 1
) -> Batch:
    """Return a batch of 6 x 8 px, uint8 unless ``is_float``; every second window has no first frame."""
    rng = np.random.default_rng(0)
    history_BT = torch.ones(num_windows, num_frames, dtype=torch.bool)
    history_BT[::2, 0] = False
    images = torch.from_numpy(rng.integers(0, 256, (num_windows, num_frames, num_cameras, 3, 6, 8), dtype=np.uint8))
    images = images * history_BT[..., None, None, None, None]
    mask_BTK = history_BT[..., None].repeat(1, 1, 4)
    mask_BTK[..., -1] = False
    actions = torch.from_numpy(rng.normal(size=(num_windows, num_frames, 4, num_actions)).astype(np.float32))
    sides = [("left", "right")[b % 2] for b in range(num_windows)]
    return Batch(
        images_BTVCYX=images.float() / 255 if is_float else images,
        history_BT=history_BT,
        state_BTS=torch.zeros(num_windows, num_frames, 0),
        actions_BTKA=actions * mask_BTK[..., None],
        mask_BTK=mask_BTK,
        instruction=tuple(f"Go to the {side} bottle" for side in sides),
        scenario=tuple(f"1box_hori_{side}" for side in sides),
        window_ids=np.arange(num_windows),
    )


BATCH = batch_of()
