"""Find the parts of the val data on which a sampler loses to the baseline."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mobile_vla.compare.comparison import Row
from mobile_vla.metrics import is_better

_SLICE = re.compile(r"scenario_(?!mean$).+|task_.+|phase_\d+|critical|rare|common|horizon_\d+")


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Of ``num_slices`` parts, those in which a sampler is worse: name (``phase_3``) to mean difference, worst first.

    Worse means that the 95 % t interval paired by seed excludes 0, each part for itself.
    """

    num_slices: int
    by_slice: dict[str, float]


def losses_of(row: Row, primary: str) -> Losses:
    """Look at every scenario, phase, predicted step and the critical moments of the ``primary`` metric."""
    prefix = f"{primary}/"
    differences = {
        part: metric.difference
        for name, metric in row.metrics.items()
        if _SLICE.fullmatch(part := name.removeprefix(prefix)) and name.startswith(prefix)
    }
    known = {part: one for part, one in differences.items() if one is not None and one.mean is not None}
    lost = {
        part: one.mean
        for part, one in known.items()
        if one.mean is not None and one.excludes_zero and not is_better(primary, one.mean)
    }
    return Losses(
        num_slices=sum(one.interval is not None for one in known.values()),
        by_slice=dict(sorted(lost.items(), key=lambda item: -abs(item[1]))),
    )
