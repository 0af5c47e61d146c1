"""Measure contenders step by step, and what they hold in memory."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import psutil
import torch
from contenders import Contender
from numpy.typing import NDArray
from synthetic import SyntheticData
from torch.utils.data import BatchSampler, WeightedRandomSampler

Made = TypeVar("Made")

_CACHE_BYTES = 64 * 2**20
"""More than a processor's last cache holds, which a training step leaves full of other things."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What each of n consecutive steps took of one contender, in ms: by the clock, and of the processor [2, n]."""

    draw_ms: NDArray[np.float64]
    update_ms: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of torch's sampler: what each batch took, as in ``Steps``, and what is held beside the weights then."""

    draw_ms: NDArray[np.float64]
    num_bytes: int


class Timer:
    """Runs steps as training does: a draw, the model's turn, a score update."""

    def __init__(self, data: SyntheticData, *, first_step: int, num_steps: int, random: np.random.Generator) -> None:
        self._data = data
        self._first_step = first_step
        self._num_steps = num_steps
        self._random = random
        self._elsewhere = np.zeros(_CACHE_BYTES, np.uint8)

    def first_draw_ms(self, contender: Contender) -> float:
        """Time the draw of the first step alone: all that is put off until then is in it."""
        started = time.perf_counter()
        contender.draw(self._first_step)
        return 1000 * (time.perf_counter() - started)

    def run(self, contenders: Sequence[Contender]) -> list[Steps]:
        """Time the steps after the first; in each the contenders take turns."""
        ms = np.empty((len(contenders), 2, 2, self._num_steps))
        for number in range(self._num_steps):
            for place, contender in enumerate(contenders):
                ms[place, ..., number] = self._time(contender, self._first_step + number)
        return [Steps(draw_ms=draw, update_ms=update) for draw, update in ms]

    def _time(self, contender: Contender, step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        self._use_caches()
        started = _now_ms()
        ids = contender.draw(step)
        draw_ms = _now_ms() - started
        contender.count(step)
        losses = self._data.losses_at(ids, self._random)
        self._use_caches()
        started = _now_ms()
        contender.update(step, ids, losses)
        return draw_ms, _now_ms() - started

    def _use_caches(self) -> None:
        self._elsewhere += 1


def _now_ms() -> NDArray[np.float64]:
    """Return the clock, and the time this thread has had of the processor: without that which others took."""
    return 1000 * np.array([time.perf_counter(), time.thread_time()])


def traced_bytes(make: Callable[[], Made]) -> tuple[Made, int, int]:
    """Return what ``make`` returns, the bytes that are held for it and the most that were while it was made.

    Counted is what Python and numpy allocate, not Arrow's and torch's own memory.
    """
    gc.collect()
    tracemalloc.start()
    try:
        made = make()
        gc.collect()
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return made, held, peak


def resident_bytes(make: Callable[[], Made]) -> tuple[Made, int]:
    """Return what ``make`` returns and by how much the process is larger for it: also for memory Python cannot see."""
    process = psutil.Process()
    before = process.memory_info().rss
    made = make()
    return made, process.memory_info().rss - before


def time_epoch(weights: torch.Tensor, *, batch_size: int) -> Epoch:
    """Draw as many windows as there are by ``WeightedRandomSampler``, in batches, all with the ``weights`` of now."""
    sampler = WeightedRandomSampler(weights, len(weights))  # type: ignore[arg-type]
    batches = iter(BatchSampler(sampler, batch_size, drop_last=False))
    times = [_now_ms()]
    _, num_bytes = resident_bytes(lambda: next(batches))
    times.append(_now_ms())
    times.extend(_now_ms() for _ in batches)
    return Epoch(draw_ms=np.diff(times, axis=0).T, num_bytes=num_bytes)
