"""Decoded images in blocks, which are handed on before they fill the memory or a reading process seems to be stuck."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

_BLOCK_BYTES = 4 * 2**20
"""Size from which a block is handed on: the memory does not grow with the length of the episode."""

_PROGRESS_S = 0.3
"""Processor time after which a block is handed on; a reading process that is silent for 2.5 s is ended."""


def in_blocks(images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Yield ``images``, each [Y, X, 3] and all of one size, in blocks [frames of the block, Y, X, 3]; none is empty."""
    block: list[NDArray[np.uint8]] = []
    began = time.process_time()
    for image in images:
        block.append(image)
        if len(block) * image.nbytes >= _BLOCK_BYTES or time.process_time() - began > _PROGRESS_S:
            yield np.stack(block)
            block, began = [], time.process_time()
    if block:
        yield np.stack(block)
