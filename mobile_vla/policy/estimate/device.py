"""Ask a device how much memory it has left and how fast it multiplies."""

from __future__ import annotations

import time

import psutil
import torch

_EDGE = {"cuda": 4096, "cpu": 512}


def available_bytes(device: torch.device) -> int:
    """Return the memory that a process may still take: of the GPU, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype, *, seconds: float) -> float:
    """Return the operations a second of products of square matrices, measured for about ``seconds``."""
    edge = _EDGE.get(device.type, _EDGE["cpu"])
    matrix = torch.randn(edge, edge, device=device).to(dtype)
    _multiply(matrix, 1)
    # The time of several at a time, as a GPU is asked ahead of what it has done.
    count, elapsed = 1, 0.0
    while elapsed < seconds / 2:
        count *= 2
        elapsed = _multiply(matrix, count)
    return 2 * edge**3 * count / elapsed


def _multiply(matrix: torch.Tensor, count: int) -> float:
    """Return the seconds of ``count`` products; reading one value waits for all of them."""
    started = time.perf_counter()
    product = matrix
    for _ in range(count):
        product = matrix @ matrix
    product[0, 0].item()
    return time.perf_counter() - started
