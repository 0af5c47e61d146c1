"""The statistics that LeRobot stores of each episode and of the data set: range, mean, spread and quantiles.

They are over all episodes. This project reads none of them; lerobot normalises with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)

Statistics = dict[str, NDArray[Any]]
"""The statistics of one feature by name: [columns] each, for images [3, 1, 1]; ``count`` [1] are the frames."""

_LARGE_SIDE, _SAMPLED_SIDE = 300, 150
"""Of images from this side on, only every nth pixel counts, so that about so many are left: as lerobot does it."""


def of_values(values_FA: NDArray[Any]) -> Statistics:
    """Return the statistics of the columns of ``values_FA``; a pure function.

    A quantile is the value at which the share of the frames is reached. lerobot's own, from a histogram, differ from
    it by at most 1/5000 of the range.
    """
    values = values_FA.astype(np.float64)
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
        **{name: np.quantile(values, share, axis=0, method="inverted_cdf") for name, share in QUANTILES.items()},
    }


class ImageCounts:
    """How often each of the 256 levels of each channel is in the images of one camera: all that statistics need."""

    def __init__(self) -> None:
        self.num_images = 0
        self.counts_CL = np.zeros((3, 256), np.int64)

    def add(self, image_YXC: NDArray[np.uint8]) -> None:
        """Count the pixels of an image."""
        side = max(image_YXC.shape[:2])
        step = max(side // _SAMPLED_SIDE, 1) if side >= _LARGE_SIDE else 1
        for channel in range(3):
            levels = image_YXC[::step, ::step, channel].ravel()
            self.counts_CL[channel] += np.bincount(levels, minlength=256)
        self.num_images += 1

    def statistics(self) -> Statistics:
        """Return the statistics of the images, scaled to 0..1."""
        levels = np.arange(256) / 255
        share_CL = self.counts_CL / self.counts_CL.sum(1, keepdims=True)
        mean_C = share_CL @ levels
        reached_CL = np.cumsum(share_CL, axis=1)
        first_C, last_C = (self.counts_CL > 0).argmax(1), 255 - (self.counts_CL[:, ::-1] > 0).argmax(1)
        found = {
            "min": levels[first_C],
            "max": levels[last_C],
            "mean": mean_C,
            "std": np.sqrt(np.maximum(share_CL @ levels**2 - mean_C**2, 0)),
            # 1e-9: sums of shares are off by rounding, and must not pass over a level that is reached exactly.
            **{name: levels[(reached_CL >= share - 1e-9).argmax(1)] for name, share in QUANTILES.items()},
        }
        shaped = {name: values[:, None, None] for name, values in found.items()}
        return {name: np.array([self.num_images]) if name == "count" else shaped[name] for name in NAMES}


def joined(whole: Mapping[str, Statistics] | None, episode: Mapping[str, Statistics]) -> dict[str, Statistics]:
    """Return the statistics of all episodes so far, ``whole``, and one more; a pure function.

    Quantiles are the mean of those of the episodes by their frames. This is not the quantile of all frames, but it is
    what lerobot's own writer stores, so that both sets train alike.
    """
    if whole is None:
        return dict(episode)
    result: dict[str, Statistics] = {}
    for key, new in episode.items():
        old = whole[key]
        total = old["count"] + new["count"]
        share = (new["count"] / total).item()
        mean = old["mean"] + (new["mean"] - old["mean"]) * share
        variance = (1 - share) * (old["std"] ** 2 + (old["mean"] - mean) ** 2)
        variance += share * (new["std"] ** 2 + (new["mean"] - mean) ** 2)
        result[key] = {
            "min": np.minimum(old["min"], new["min"]),
            "max": np.maximum(old["max"], new["max"]),
            "mean": mean,
            "std": np.sqrt(variance),
            "count": total,
            **{name: old[name] + (new[name] - old[name]) * share for name in QUANTILES},
        }
    return result
