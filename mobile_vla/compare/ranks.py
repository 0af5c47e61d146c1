"""Say where the error on held-out episodes and the success of the drives rank samplers differently."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

from mobile_vla.compare.closed_loop import success_key
from mobile_vla.compare.comparison import Comparison, Row
from mobile_vla.compare.direction import best_first, is_better
from mobile_vla.compare.pairs import metric_difference
from mobile_vla.number_format import ShareFormat, listed


def rank_sentences(comparison: Comparison) -> list[str]:
    """Compare the order by the primary metric with that by success, one entry a suite.

    Success that is itself the primary metric is not held against itself. A suite whose runs met different initial
    states has no order, nor has one that fewer than two samplers drove, or all equally well. A contradiction between
    two samplers is sure where both 95 % t intervals paired by seed exclude 0.
    """
    suites = [
        suite
        for suite in comparison.suites
        if suite not in comparison.different_states and success_key(suite) != comparison.primary
    ]
    return [sentence for suite in suites if (sentence := _rank_sentence(comparison, suite))]


def _rank_sentence(comparison: Comparison, suite: str) -> str:
    success = success_key(suite)
    rows = [row for row in comparison.ranked if row.metrics[success].values]
    if not any(_leads(one, other, success) for one, other in permutations(rows, 2)):
        return ""
    contradicted = {
        one.label: [other for other in rows if _contradict(one, other, comparison.primary, success)] for one in rows
    }
    if not any(contradicted.values()):
        return f"{comparison.primary} and success in {suite} agree on the order of the {comparison.compared}s."
    sure = {
        label: [other.label for other in others if _are_sure(one, other, (comparison.primary, success))]
        for one, (label, others) in zip(rows, contradicted.items(), strict=True)
    }
    is_about_the_first = bool(contradicted[rows[0].label])
    parts = [
        _first_falls(rows, comparison.primary, suite)
        if is_about_the_first
        else f"{comparison.primary} and success in {suite} agree that {rows[0].label} is first, and order the others "
        "differently."
    ]
    named = [f"{label} against {listed(others)}" for label, others in sure.items() if others]
    if named:
        parts.append(
            f"Better by {comparison.primary} and worse by success, both surely (95 % t intervals paired by seed that "
            f"exclude 0, each for one comparison alone): {'; '.join(named)}."
        )
    else:
        parts.append(f"That may be chance: no two {comparison.compared}s differ surely in both.")
    return " ".join(parts)


def _first_falls(rows: Sequence[Row], primary: str, suite: str) -> str:
    success, first = success_key(suite), rows[0]
    best = min(rows, key=lambda row: best_first(success, row.metrics[success].mean))
    place = 1 + sum(_leads(other, first, success) for other in rows)
    is_last = not any(_leads(first, other, success) for other in rows)
    position = "last" if is_last else f"number {place}"
    shares = ShareFormat()
    return (
        f"By {primary} {first.label} is first of {len(rows)}; by success in {suite} it is {position} "
        f"({shares.text(first.metrics[success].mean)}; {best.label} is first with "
        f"{shares.text(best.metrics[success].mean)})."
    )


def _leads(one: Row, other: Row, name: str) -> bool:
    """Whether ``one`` has the better mean of ``name``; the same drives in other runs differ by rounding alone."""
    mean, reference = one.metrics[name].mean, other.metrics[name].mean
    if mean is None or reference is None or math.isclose(mean, reference):
        return False
    return is_better(name, mean - reference)


def _contradict(one: Row, other: Row, primary: str, success: str) -> bool:
    """Whether ``one`` leads by the primary metric and ``other`` by success."""
    return _leads(one, other, primary) and _leads(other, one, success)


def _are_sure(one: Row, other: Row, names: Sequence[str]) -> bool:
    return all(metric_difference(one.finished, other.finished, name).excludes_zero for name in names)
