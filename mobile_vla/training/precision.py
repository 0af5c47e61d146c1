"""Run a model in mixed precision: what its forward pass computes in, and the scale that keeps fp16 gradients alive."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
"""What the forward and backward pass compute in; weights, their gradients and the optimiser's state stay fp32."""

_DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context of a forward pass; for ``fp32`` it changes nothing.

    Training and the evaluations inside it run in it. A live policy and the probes after training run in fp32.
    """
    return torch.autocast(device.type, dtype=_DTYPES.get(precision), enabled=precision in _DTYPES)


def gradient_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Return what scales losses so that small gradients survive in fp16; elsewhere the scale is 1 and stays so."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def lower_scale(scaler: torch.amp.GradScaler) -> bool:
    """Lower the scale after a gradient that was not finite; False where a lower scale cannot help.

    That is without a scale, where the unscaled gradient itself is too large to sum up, and below a scale of 1.
    """
    before = scaler.get_scale()
    scaler.update()
    return 1 <= scaler.get_scale() < before
