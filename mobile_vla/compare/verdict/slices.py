"""Find the parts of the val data on which a treatment is worse than the baseline."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mobile_vla.compare.data.comparison import Row
from mobile_vla.metrics import is_better

# scenario_mean is an average over scenarios and not a part of the data.
_SLICE = re.compile(r"scenario_(?!mean$).+|task_.+|phase_\d+|critical|rare|common|horizon_\d+")


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The parts (slices) of the val data in which a treatment is worse, out of ``num_slices`` parts.

    ``by_slice`` maps the part's name (``phase_3``) to the mean difference, worst first. Worse means that the 95 % t
    interval, paired by seed, excludes 0; it is not corrected for the number of parts.
    """

    num_slices: int
    by_slice: dict[str, float]


def losses_of(row: Row, primary: str) -> Losses:
    """Return the parts of the ``primary`` metric in which ``row`` is worse than the baseline.

    The parts are scenarios, tasks, phases, steps of the horizon, and critical, rare and common frames.
    """
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
