"""Write the sentences that compare each treatment with its control, and list the pairs with too little data."""

from __future__ import annotations

from mobile_vla.compare.data.comparison import Comparison
from mobile_vla.compare.data.pairs import ControlPair
from mobile_vla.compare.verdict.effects import family
from mobile_vla.metric_text import size
from mobile_vla.metrics import is_better
from mobile_vla.text import in_words


def control_sentences(comparison: Comparison) -> list[str]:
    """Return one paragraph on the pairs with two or more common seeds and one on the others; none without controls."""
    judged = [pair for pair in comparison.controls if pair.difference.is_judged]
    others = [pair for pair in comparison.controls if not pair.difference.is_judged]
    paragraphs = []
    if judged:
        claims = "; ".join(_claim(comparison, pair) for pair in judged)
        is_claimed = any(pair.difference.is_significant for pair in judged)
        tested = f" p: paired t test, adjusted by Holm over {family(comparison)}." if is_claimed else ""
        paragraphs.append(f"Against {_its(judged)} in {comparison.primary_title}: {claims}.{tested}")
    if others:
        reasons = {pair: _what_is_missing(comparison, pair) for pair in others}
        texts = "; ".join(f"{pair.label} against {pair.control} ({reason})" for pair, reason in reasons.items())
        paragraphs.append(f"Missing against {_its(others)}: {texts}.{_labels(comparison)}")
    return paragraphs


def _its(pairs: list[ControlPair]) -> str:
    return "its control" if len(pairs) == 1 else "their controls"


def _claim(comparison: Comparison, pair: ControlPair) -> str:
    one, centre = pair.difference, pair.difference.mean or 0.0
    if one.is_equal:
        return f"{pair.label} is equal to {pair.control} in every seed, to the last digit"
    if not one.is_significant:
        return f"{pair.label} cannot be told from {pair.control}"
    how = "indicatively" if one.is_indicative else "surely"
    side = "better" if is_better(comparison.primary, centre) else "worse"
    reference = next(row.metrics[comparison.primary].mean for row in comparison.rows if row.label == pair.control)
    by = size(comparison.primary, abs(centre), reference=reference)
    return f"{pair.label} is {how} {side} than {pair.control} by {by}, {in_words(one.adjusted_p_value)}"


def _what_is_missing(comparison: Comparison, pair: ControlPair) -> str:
    known, ranked = ({row.label for row in rows} for rows in (comparison.rows, comparison.ranked))
    sides = (pair.label, pair.control)
    if unknown := [f"'{label}'" for label in sides if label not in known]:
        return f"no run is called {' or '.join(unknown)}"
    if unfinished := [label for label in sides if label not in ranked]:
        return f"no finished run of {' or '.join(unfinished)}"
    return "fewer than two seeds in common"


def _labels(comparison: Comparison) -> str:
    known = {row.label for row in comparison.rows}
    if all(label in known for pair in comparison.controls for label in (pair.label, pair.control)):
        return ""
    return f" study.controls takes the labels of the comparison, here: {'; '.join(sorted(known))}."
