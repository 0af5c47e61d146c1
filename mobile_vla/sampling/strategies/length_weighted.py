"""Draw windows by the length of their episode alone, a control: p proportional to L^power, L its number of windows.

``power`` 0 is uniform over windows, -1 gives all episodes equal shares (as ``random_temporal``), 1 prefers long
episodes. A curation method should do better than this control: in one audit of demonstration scoring, length alone did
better than a published influence method, although that method had done better than random choice.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from mobile_vla.sampling.parts.weighted import WeightedSampler
from mobile_vla.schema import WindowTable
from mobile_vla.streams import Stream


def length_weighted(
    *, windows: WindowTable, batch_size: int, stream: Stream, power: Annotated[float, Field(ge=-10, le=10)]
) -> WeightedSampler:
    """Return the sampler of this table; draws are independent, with replacement."""
    length = np.bincount(windows.episode)[windows.episode]
    return WeightedSampler(windows=windows, batch_size=batch_size, stream=stream, weights=length.astype(float) ** power)
