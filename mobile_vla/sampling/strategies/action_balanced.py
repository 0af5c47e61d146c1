"""Draw windows with rare actions more often: p proportional to 1 / density(actions)^power, at most ``max_ratio`` apart.

``density: label`` is label distribution smoothing (Yang et al., Delving into Deep Imbalanced Regression, ICML 2021;
histogram, Gaussian kernel of 5 bins and sigma 2, power 0.5 or 1). The mean of each action dimension over the chunk is a
label; the weight of a window is the mean of the weights of its labels. ``density: code`` assigns whole chunks to
``num_bins`` k-means codes; the density is the number of chunks with the same code. So a manoeuvre can be rare although
none of its values is.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from mobile_vla.sampling.contract import ActionChunks
from mobile_vla.sampling.parts.pools import random_pool
from mobile_vla.sampling.parts.weighted import WeightedSampler
from mobile_vla.schema import WindowTable
from mobile_vla.streams import Stream

_KERNEL_SIZE, _KERNEL_SIGMA = 5, 2.0
_BLOCK = 65_536
"""Number of windows whose chunks are read at a time: bounds the memory for large tables."""


def action_balanced(
    *,
    windows: WindowTable,
    batch_size: int,
    stream: Stream,
    chunks: ActionChunks,
    density: Literal["label", "code"],
    num_bins: PositiveInt,
    power: Annotated[float, Field(ge=0, le=1)],
    max_ratio: Annotated[float, Field(ge=1)],
) -> WeightedSampler:
    """Return the sampler of this table; draws are independent, with replacement."""
    blocks = [np.arange(i, min(i + _BLOCK, len(windows))) for i in range(0, len(windows), _BLOCK)]
    if density == "label":
        labels_NA = np.concatenate([_mean_actions(*chunks(ids)) for ids in blocks])
        inverse = np.mean([_inverse_label_density(x, num_bins=num_bins, power=power) for x in labels_NA.T], axis=0)
    else:
        codebook = _Codebook(chunks, len(windows), num_codes=num_bins, stream=stream.child("codes"))
        code = np.concatenate([codebook.codes(*chunks(ids)) for ids in blocks])
        inverse = np.maximum(np.bincount(code), 1.0)[code] ** -power
    weights = np.minimum(inverse, max_ratio * inverse.min())
    return WeightedSampler(windows=windows, batch_size=batch_size, stream=stream, weights=weights)


def _mean_actions(actions_BKA: NDArray[np.float32], mask_BK: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the mean action [B, A] of each chunk over its existing actions."""
    return actions_BKA.sum(1) / np.maximum(mask_BK.sum(1), 1)[:, None]


def _inverse_label_density(label_N: NDArray[np.float32], *, num_bins: int, power: float) -> NDArray[np.float64]:
    """Return density^-power of each label, scaled to mean 1; the density is a histogram smoothed over nearby bins."""
    low, high = float(label_N.min()), float(label_N.max())
    if high == low:
        return np.ones(len(label_N))
    bin_N = np.minimum(((label_N - low) / (high - low) * num_bins).astype(np.int64), num_bins - 1)
    offsets = np.arange(_KERNEL_SIZE) - _KERNEL_SIZE // 2
    kernel = np.exp(-0.5 * (offsets / _KERNEL_SIGMA) ** 2)
    counts = np.pad(np.bincount(bin_N, minlength=num_bins).astype(float), _KERNEL_SIZE // 2, mode="reflect")
    density = np.convolve(counts, kernel / kernel.sum(), mode="valid")
    inverse = density[bin_N] ** -power
    # The mean is 1 for every action dimension, so all of them count alike in the mean over a window's labels.
    return inverse / inverse.mean()


class _Codebook:
    """K-means codes of normalised action chunks, fitted to a random part of a large table.

    Actions that do not exist are set to 0, the mean, after the normalisation.
    """

    def __init__(self, chunks: ActionChunks, num_windows: int, *, num_codes: int, stream: Stream) -> None:
        from scipy.cluster.vq import kmeans2  # imported here: it is slow to import, and few samplers need it

        random = stream.at(0)
        actions_BKA, mask_BK = chunks(np.sort(random_pool(random, num_windows)))
        existing = actions_BKA[mask_BK]
        spread_A = existing.std(0)  # 0 for a dimension that never changes; it is divided by 1 instead
        self._center_A, self._scale_A = existing.mean(0), np.where(spread_A > 0, spread_A, 1)
        points = self._points(actions_BKA, mask_BK)
        num_codes = min(num_codes, len(np.unique(points, axis=0)))
        self._codes, _ = kmeans2(points, num_codes, minit="++", rng=random, missing="warn")

    def _points(self, actions_BKA: NDArray[np.float32], mask_BK: NDArray[np.bool_]) -> NDArray[np.float64]:
        normal_BKA = (actions_BKA - self._center_A) / self._scale_A * mask_BK[..., None]
        return normal_BKA.reshape(len(normal_BKA), -1).astype(np.float64)

    def codes(self, actions_BKA: NDArray[np.float32], mask_BK: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return the nearest code of each chunk [B]."""
        from scipy.cluster.vq import vq

        return vq(self._points(actions_BKA, mask_BK), self._codes)[0]
