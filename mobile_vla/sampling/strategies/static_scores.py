"""Draw windows by scores from a file: p = (1 - u) score^power / sum + u / N, the interface for data curation methods.

The file has a score of 0 or more for every train window, which it names by episode and current frame. Examples are
influence, mutual information, a progress model, or the losses of another run. u is ``uniform_mix``.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from mobile_vla.errors import ConfigError
from mobile_vla.sampling.parts.weighted import WeightedSampler
from mobile_vla.sampling.score_file import read_window_scores
from mobile_vla.schema import WindowTable
from mobile_vla.streams import Stream


def static_scores(
    *,
    windows: WindowTable,
    batch_size: int,
    stream: Stream,
    file: str,
    power: Annotated[float, Field(ge=0, allow_inf_nan=False)],
    uniform_mix: Annotated[float, Field(ge=0, lt=1)],
) -> WeightedSampler:
    """Return the sampler of this table; draws are independent, with replacement."""
    scores = read_window_scores(file, windows, option="sampler.file").astype(np.float64)
    if (scores < 0).any() or not scores.any():
        raise ConfigError(
            f"sampler.file={file}: its scores are {'below 0 in places' if scores.any() else 'all 0'}; expected 0 or "
            "more, and not all 0, as they are shares. Shift or exponentiate them first."
        )
    weights = (scores / scores.max()) ** power  # divided first, because the power of a large score can overflow
    weights = (1 - uniform_mix) * weights / weights.sum() + uniform_mix / len(windows)
    return WeightedSampler(windows=windows, batch_size=batch_size, stream=stream, weights=weights)
