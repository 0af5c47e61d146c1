"""Free memory and matrix multiplication speed of a device."""

from __future__ import annotations

import time

import psutil
import torch

_EDGE = {"cuda": 4096, "cpu": 512}
"""Rows of the matrices: large enough to use the whole device, small enough for one product to be quick."""


def available_bytes(device: torch.device) -> int:
    """Return the memory in bytes that is still free: that of the GPU, else that of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype, *, seconds: float) -> float:
    """Return the operations per second of products of square matrices, measured for about ``seconds``."""
    edge = _EDGE.get(device.type, _EDGE["cpu"])
    matrix = torch.randn(edge, edge, device=device).to(dtype)
    _multiply(matrix, 1)
    # Twice as many products until it takes long enough: GPU calls return before the work is done, so in a short
    # measurement the launch and the final wait would dominate.
    count, elapsed = 1, 0.0
    while elapsed < seconds / 2:
        count *= 2
        elapsed = _multiply(matrix, count)
    return 2 * edge**3 * count / elapsed


def _multiply(matrix: torch.Tensor, count: int) -> float:
    """Return the seconds that ``count`` products take; reading one value at the end waits for all of them."""
    started = time.perf_counter()
    product = matrix
    for _ in range(count):
        product = matrix @ matrix
    product[0, 0].item()
    return time.perf_counter() - started
