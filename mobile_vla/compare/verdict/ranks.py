"""Write the sentences on treatments that the primary metric and the success rates of the suites rank differently."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import permutations

from mobile_vla.compare.data.closed_loop import success_key, suite_of
from mobile_vla.compare.data.comparison import Comparison, Row
from mobile_vla.compare.data.pairs import metric_difference
from mobile_vla.metrics import best_first, is_better, title_of
from mobile_vla.text import listed


def rank_sentences(comparison: Comparison) -> list[str]:
    """Return sentences that compare the ranking by the primary metric with the ranking by success, one per suite.

    If the primary metric is a closed-loop metric, it is compared with the prediction error too, and not with itself. A
    metric that is equal for all treatments has no ranking. Suites are left out if runs have different initial states or
    fewer than two treatments drove. A contradiction between two treatments is sure if both 95 % t intervals, paired by
    seed, exclude 0.
    """
    if suite_of(comparison.primary) in comparison.different_states:
        return []
    suites = [suite for suite in comparison.suites if suite not in comparison.different_states]
    known = comparison.rows[0].metrics
    names = [name for name in (comparison.error, *map(success_key, suites)) if name in known]
    return [sentence for name in names if name != comparison.primary and (sentence := _rank_sentence(comparison, name))]


def _rank_sentence(comparison: Comparison, name: str) -> str:
    primary, other_name = comparison.primary_title, title_of(name)
    both = f"{re.sub('^success ', 'Success ', primary)} and {other_name} agree"
    rows = [row for row in comparison.ranked if row.metrics[name].values]
    names = (comparison.primary, name)
    if not all(any(_leads(one, other, each) for one, other in permutations(rows, 2)) for each in names):
        return ""
    contradicted = {
        one.label: [other for other in rows if _contradict(one, other, comparison.primary, name)] for one in rows
    }
    if not any(contradicted.values()):
        return f"{both} on the order of the {comparison.compared}s."
    sure = {
        label: [other.label for other in others if _are_sure(one, other, names)]
        for one, (label, others) in zip(rows, contradicted.items(), strict=True)
    }
    is_about_the_first = bool(contradicted[rows[0].label])
    parts = [
        _first_falls(rows, comparison, name)
        if is_about_the_first
        else f"{both} that {rows[0].label} is first, and order the others differently."
    ]
    named = [f"{label} against {listed(others)}" for label, others in sure.items() if others]
    if named:
        parts.append(
            f"Better by {primary} and worse by {other_name}, both surely (95 % t intervals paired by seed that "
            f"exclude 0, each for one comparison alone): {'; '.join(named)}."
        )
    else:
        parts.append(f"That may be chance: no two {comparison.compared}s differ surely in both.")
    return " ".join(parts)


def _first_falls(rows: Sequence[Row], comparison: Comparison, name: str) -> str:
    means = {row.label: row.metrics[name].mean for row in rows}
    first, best = rows[0], min(rows, key=lambda row: best_first(name, means[row.label]))
    place = 1 + sum(_leads(other, first, name) for other in rows)
    is_last = not any(_leads(first, other, name) for other in rows)
    position = "last" if is_last else f"number {place}"
    numbers, primary = comparison.format(name), comparison.primary_title
    return (
        f"By {primary} {first.label} is first of {len(rows)}; by {title_of(name)} it is {position} "
        f"({numbers.text(means[first.label])}; {best.label} is first with {numbers.text(means[best.label])})."
    )


def _leads(one: Row, other: Row, name: str) -> bool:
    """Return whether ``one`` has the better mean of ``name``.

    Means that are almost equal count as equal: the same success rates can have means that differ by rounding errors.
    """
    mean, reference = one.metrics[name].mean, other.metrics[name].mean
    if mean is None or reference is None or math.isclose(mean, reference):
        return False
    return is_better(name, mean - reference)


def _contradict(one: Row, other: Row, primary: str, name: str) -> bool:
    """Return whether ``one`` is better in the primary metric and ``other`` is better in ``name``."""
    return _leads(one, other, primary) and _leads(other, one, name)


def _are_sure(one: Row, other: Row, names: Sequence[str]) -> bool:
    return all(metric_difference(one.finished, other.finished, name).excludes_zero for name in names)
