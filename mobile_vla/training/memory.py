"""Measure the most memory a run has needed."""

from __future__ import annotations

import resource
import sys

import torch

_GIB = 2**30


def reset_peak_memory(device: torch.device) -> None:
    """Let the peak begin here; on the CPU it is the process's and cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gib(device: torch.device) -> float:
    """Return the most memory used, in GiB: what tensors held on a GPU, else the resident set of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / _GIB
