"""Say in sentences what a comparison shows, and when it shows nothing."""

from __future__ import annotations

from mobile_vla.compare.comparison import LOOKUP, Comparison, Row
from mobile_vla.compare.direction import is_better
from mobile_vla.compare.number_format import NumberFormat, listed
from mobile_vla.compare.ranks import rank_sentences
from mobile_vla.compare.statistics import MIN_SEEDS, mean

PAST_BEST = 0.02
"""Relative. A final value that is worse than the run's best by no more is taken for noise between evaluations."""


def verdict(comparison: Comparison) -> list[str]:
    """Say the effects against the baseline, whether success ranks as errors do, then what limits the answer.

    One paragraph each: effects, ranks by suite, the lookup table, who is past the best, too few seeds.
    """
    paragraphs = [
        _effects(comparison),
        *rank_sentences(comparison),
        _lookup(comparison),
        _past_best(comparison),
        _indicative(comparison),
    ]
    return [paragraph for paragraph in paragraphs if paragraph]


def is_indicative(row: Row, primary: str) -> bool:
    """Whether the row rests on too few seeds to be more than a hint."""
    return 0 < len(row.metrics[primary].values) < MIN_SEEDS


def _effects(comparison: Comparison) -> str:
    if not comparison.ranked:
        return f"No finished run has {comparison.primary}: there is nothing to compare."
    if comparison.baseline_row is None:
        return (
            f"The baseline '{comparison.baseline}' is not among the finished runs, so the differences are left empty. "
            f"Choose one of: {'; '.join(row.label for row in comparison.ranked)}."
        )
    others = [row for row in comparison.ranked if row.label != comparison.baseline]
    if not others:
        return f"Only {comparison.baseline} finished: there is nothing to compare it with."
    differences = {row.label: row.metrics[comparison.primary].difference for row in others}
    sure = {name: d.mean for name, d in differences.items() if d and d.mean is not None and d.excludes_zero}
    too_few = [name for name, d in differences.items() if d is None or d.interval is None]
    unsure = [name for name in differences if name not in sure and name not in too_few]
    parts = []
    if sure:
        effects = [
            f"{name} is {'better' if is_better(comparison.primary, centre) else 'worse'} by {abs(centre):.2g}"
            for name, centre in sure.items()
        ]
        parts.append(
            f"Paired by seed with {comparison.baseline}, {listed(effects)} in {comparison.primary} "
            "(95 % t intervals that exclude 0, each for one comparison alone)."
        )
    if unsure and not sure and not too_few:
        parts.append(
            f"The data cannot tell these {comparison.compared}s apart: every 95 % interval against "
            f"{comparison.baseline} holds 0."
        )
    elif unsure:
        parts.append(f"The data cannot tell {listed(unsure)} from {comparison.baseline}.")
    if too_few:
        parts.append(
            f"Fewer than two seeds in common with {comparison.baseline}, so nothing is known of {listed(too_few)}."
        )
    return " ".join(parts)


def _lookup(comparison: Comparison) -> str:
    reference = comparison.reference.get(LOOKUP)
    means = {row.label: row.metrics[comparison.primary].mean for row in comparison.ranked}
    if reference is None or not means:
        return ""
    beaten = [name for name, centre in means.items() if centre is not None and centre >= reference]
    if len(beaten) == len(means):
        nothing = f"No {comparison.compared} beats the (scenario, time step) lookup"
        return f"{nothing}: these policies have learned nothing visual."
    if beaten:
        return f"No better than the (scenario, time step) lookup, which sees no image: {listed(beaten)}."
    return ""


def _past_best(comparison: Comparison) -> str:
    best_name = f"best/{comparison.primary}"
    numbers = NumberFormat.of(row.metrics[comparison.primary].mean for row in comparison.ranked)
    past = []
    for row in comparison.ranked:
        finals = row.metrics[comparison.primary].values
        bests = row.metrics[best_name].values if best_name in row.metrics else {}
        seeds = sorted(finals.keys() & bests.keys())
        final, best = mean([finals[seed] for seed in seeds]), mean([bests[seed] for seed in seeds])
        if final is not None and best is not None and final > best * (1 + PAST_BEST):
            past.append(f"{row.label} ({numbers.text(final)}, best {numbers.text(best)})")
    if not past:
        return ""
    return (
        f"Past their best {comparison.primary} at the last step: {listed(past)}: they overfit or diverge, and the "
        "ranking depends on the budget."
    )


def _indicative(comparison: Comparison) -> str:
    if any(is_indicative(row, comparison.primary) for row in comparison.rows):
        return f"* fewer than {MIN_SEEDS} seeds: indicative."
    return ""
