"""Put our samplers, torch's and torchrl's behind one pair of calls, so that one loop times them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from synthetic import SyntheticData
from torch.utils.data import WeightedRandomSampler

from mobile_vla.sampling.contract import Sampler, draw_windows
from mobile_vla.sampling.diagnostics import DrawStatistics
from mobile_vla.sampling.scores import Scores

SMOOTHING = 0.5
ALPHA, BETA = 0.6, 0.4
"""As in ``conf/sampler/prioritized.yaml``."""
EPSILON = 1e-6


class Contender(Protocol):
    """One sampler in training: each step draws a batch and takes the losses of it back."""

    def draw(self, step: int) -> NDArray[np.int64]:
        """Return the windows of ``step``."""
        ...

    def count(self, step: int) -> None:
        """Enter the draw into the run's diagnostics, where there are some."""
        ...

    def update(self, step: int, ids: NDArray[np.int64], losses: NDArray[np.float32]) -> None:
        """Enter the ``losses`` [B] of ``ids`` [B], as drawn."""
        ...


class Ours:
    """A sampler of ``conf/sampler`` with the scores, of ``state``, and the diagnostics that a run keeps for it."""

    def __init__(self, sampler: Sampler, data: SyntheticData, *, state: Mapping[str, NDArray[np.generic]]) -> None:
        self._sampler = sampler
        self._scores = Scores(data.windows, smoothing=SMOOTHING)
        self._scores.load(state)
        self._statistics = DrawStatistics(data.windows)
        self._look = data.look

    def draw(self, step: int) -> NDArray[np.int64]:
        """See ``Contender.draw``."""
        self._drawn = draw_windows(self._sampler, step, self._scores, self._look)
        return self._drawn.ids

    def count(self, step: int) -> None:
        """See ``Contender.count``."""
        self._statistics.add(step, self._drawn, self._scores)

    def update(self, step: int, ids: NDArray[np.int64], losses: NDArray[np.float32]) -> None:
        """See ``Contender.update``."""
        self._scores.update(step, ids, losses)


class TorchrlPrioritized:
    """torchrl's sum and minimum trees in C++: proportional priorities without smoothing and without a uniform part.

    ``import_trees`` has been called before.
    """

    def __init__(self, losses: NDArray[np.float32], *, batch_size: int) -> None:
        from torchrl.data import LazyTensorStorage
        from torchrl.data.replay_buffers.samplers import PrioritizedSampler

        everywhere = torch.arange(len(losses))
        self._storage = LazyTensorStorage(len(losses))
        self._storage.set(slice(0, len(losses)), torch.zeros(len(losses), dtype=torch.uint8))
        self._sampler = PrioritizedSampler(len(losses), alpha=ALPHA, beta=BETA)
        self._sampler.update_priority(everywhere, torch.from_numpy(losses))
        self._batch_size = batch_size

    def draw(self, step: int) -> NDArray[np.int64]:
        """See ``Contender.draw``."""
        ids, _ = self._sampler.sample(self._storage, self._batch_size)
        assert isinstance(ids, torch.Tensor)
        return ids.numpy()

    def count(self, step: int) -> None:
        """Do nothing: there are no diagnostics."""

    def update(self, step: int, ids: NDArray[np.int64], losses: NDArray[np.float32]) -> None:
        """See ``Contender.update``."""
        self._sampler.update_priority(torch.from_numpy(ids), torch.from_numpy(losses))


class TorchWeighted:
    """``WeightedRandomSampler`` whose weights follow the losses: what it has drawn is drawn, so it is asked anew."""

    def __init__(self, losses: NDArray[np.float32], *, batch_size: int) -> None:
        self.weights = torch.from_numpy((losses.astype(np.float64) + EPSILON) ** ALPHA)
        self._batch_size = batch_size

    def draw(self, step: int) -> NDArray[np.int64]:
        """See ``Contender.draw``."""
        return np.array(list(WeightedRandomSampler(self.weights, self._batch_size)))  # type: ignore[arg-type]

    def count(self, step: int) -> None:
        """Do nothing: there are no diagnostics."""

    def update(self, step: int, ids: NDArray[np.int64], losses: NDArray[np.float32]) -> None:
        """See ``Contender.update``."""
        self.weights[torch.from_numpy(ids)] = torch.from_numpy((losses.astype(np.float64) + EPSILON) ** ALPHA)
