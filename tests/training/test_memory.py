"""The peak of memory covers what was held and is in GiB."""

from __future__ import annotations

import os

import numpy as np
import torch

from mobile_vla.training.progress import peak_memory_gib

CPU = torch.device("cpu")


def test_the_peak_covers_what_was_held_and_fits_the_machine() -> None:
    held = np.ones(2**28, np.uint8)
    peak = peak_memory_gib(CPU)
    del held

    assert 0.25 < peak < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    assert peak_memory_gib(CPU) >= peak
