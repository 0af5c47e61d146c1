"""Say where the primary metric, of prediction or of driving, and success in the suites rank samplers differently."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import permutations

from mobile_vla.compare.closed_loop import success_key, suite_of
from mobile_vla.compare.comparison import Comparison, Row
from mobile_vla.compare.pairs import metric_difference
from mobile_vla.metrics import best_first, is_better, title_of
from mobile_vla.number_format import listed


def rank_sentences(comparison: Comparison) -> list[str]:
    """Compare the order by the primary metric with that by success, one entry a suite.

    A figure of driving that is the primary metric is held against the error too, and not against itself. What is equal
    for all has no order, nor has a suite whose runs met different initial states, or that fewer than two samplers
    drove. A contradiction between two samplers is sure where both 95 % t intervals paired by seed exclude 0.
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
    """Whether ``one`` has the better mean of ``name``; the same drives in other runs differ by rounding alone."""
    mean, reference = one.metrics[name].mean, other.metrics[name].mean
    if mean is None or reference is None or math.isclose(mean, reference):
        return False
    return is_better(name, mean - reference)


def _contradict(one: Row, other: Row, primary: str, name: str) -> bool:
    """Whether ``one`` leads by the primary metric and ``other`` by ``name``."""
    return _leads(one, other, primary) and _leads(other, one, name)


def _are_sure(one: Row, other: Row, names: Sequence[str]) -> bool:
    return all(metric_difference(one.finished, other.finished, name).excludes_zero for name in names)
