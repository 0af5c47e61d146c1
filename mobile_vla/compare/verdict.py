"""Say in sentences what a comparison shows, and when it shows nothing."""

from __future__ import annotations

from mobile_vla.compare.claims import effect_sentences
from mobile_vla.compare.comparison import Comparison, Row
from mobile_vla.compare.controls import control_sentences
from mobile_vla.compare.ranks import rank_sentences
from mobile_vla.compare.statistics import MIN_SEEDS, mean
from mobile_vla.metrics import ERROR, LOOKUP
from mobile_vla.number_format import NumberFormat, in_series, listed, shortened

MAX_PAST_BEST = 6
"""Names that the sentence about them holds."""

PAST_BEST = 0.02
"""Relative. A final value that is worse than the run's best by no more is taken for noise between evaluations."""


MAX_MISSING = 6
"""Entries of the list of jobs without a result, one a sampler and status; the rest is counted."""


def verdict(comparison: Comparison) -> list[str]:
    """Say what is missing, the effects, whether success ranks as errors do, and what limits all.

    One paragraph each: missing jobs, effects against the baseline and the controls (several), ranks by suite, the
    lookup table, who is past the best, too few seeds.
    """
    paragraphs = [
        _missing(comparison),
        *effect_sentences(comparison),
        *control_sentences(comparison),
        *rank_sentences(comparison),
        _lookup(comparison),
        _past_best(comparison),
        _indicative(comparison),
    ]
    return [paragraph for paragraph in paragraphs if paragraph]


def is_indicative(row: Row, primary: str) -> bool:
    """Whether the row rests on too few seeds to be more than a hint."""
    return 0 < len(row.metrics[primary].values) < MIN_SEEDS


def _missing(comparison: Comparison) -> str:
    if not comparison.unfinished:
        return ""
    seeds: dict[tuple[str, str], list[str]] = {}
    for label, run in comparison.unfinished:
        seeds.setdefault((label, run.status), []).append("?" if run.seed is None else str(run.seed))
    texts = [
        f"{label} seed{'s' if len(numbers) > 1 else ''} {listed(numbers)} ({status})"
        for (label, status), numbers in seeds.items()
    ]
    num_jobs, num_missing = sum(len(row.runs) for row in comparison.rows), len(comparison.unfinished)
    named = in_series(texts, limit=MAX_MISSING)
    return f"{num_missing} of {num_jobs} jobs {'is' if num_missing == 1 else 'are'} missing: {named}."


def _lookup(comparison: Comparison) -> str:
    reference = comparison.reference.get(LOOKUP)
    means = {row.label: row.metrics[comparison.primary].mean for row in comparison.ranked}
    if comparison.primary != ERROR or reference is None or not means:
        return ""
    beaten = [name for name, centre in means.items() if centre is not None and centre >= reference]
    if len(beaten) == len(means):
        nothing = f"No {comparison.compared} beats the (scenario, time step) lookup"
        return f"{nothing}: nothing shows that these policies use the images."
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
        f"More than {100 * PAST_BEST:.0f} % past their best {comparison.primary} at the last step: "
        f"{shortened(past, limit=MAX_PAST_BEST)}: they overfit or diverge, and the ranking depends on the budget."
    )


def _indicative(comparison: Comparison) -> str:
    if any(is_indicative(row, comparison.primary) for row in comparison.rows):
        return f"* fewer than {MIN_SEEDS} seeds: indicative."
    return ""
