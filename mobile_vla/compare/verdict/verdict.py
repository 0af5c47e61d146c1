"""Write the conclusions of a comparison as sentences, including what it cannot show."""

from __future__ import annotations

from collections.abc import Sequence

from mobile_vla.compare.data.comparison import Comparison, Row
from mobile_vla.compare.statistics.estimates import MIN_SEEDS, mean
from mobile_vla.compare.verdict.controls import control_sentences
from mobile_vla.compare.verdict.effects import effect_sentences
from mobile_vla.compare.verdict.ranks import rank_sentences
from mobile_vla.metrics import ERROR, SCALED_ERROR, reference_name, title_of, unbeaten
from mobile_vla.text import NumberFormat, in_series, listed, shortened

MAX_PAST_BEST = 6
"""The sentence on treatments past their best value names at most this many."""

PAST_BEST = 0.02
"""Relative. A final value that is worse than the run's best by at most this much counts as noise between evaluations.
"""


MAX_MISSING = 6
"""The list of jobs without a result has at most this many entries, one per treatment and status; the rest is counted.
"""


def verdict(comparison: Comparison) -> list[str]:
    """Return the conclusions of ``comparison``, one paragraph per text.

    In this order: missing jobs; effects relative to the baseline and to the controls (several paragraphs); rankings by
    suite; the reference predictors that are not beaten; treatments past their best value; too few seeds.
    """
    paragraphs = [
        _missing(comparison),
        *effect_sentences(comparison),
        *control_sentences(comparison),
        *rank_sentences(comparison),
        *_not_beaten(comparison),
        _past_best(comparison),
        _indicative(comparison),
    ]
    return [paragraph for paragraph in paragraphs if paragraph]


def is_indicative(row: Row, primary: str) -> bool:
    """Return whether the row has so few seeds that its result is only indicative."""
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


def _not_beaten(comparison: Comparison) -> list[str]:
    """Return the sentences that name every reference predictor which some or all treatments do not beat."""
    # The error of a reference predictor is measured on the val windows only: no other metric is comparable with it.
    error = comparison.error
    if error not in (ERROR, SCALED_ERROR):
        return []
    metrics = {row.label: row.metrics[error] for row in comparison.rows if error in row.metrics}
    means = {label: metric.mean for label, metric in metrics.items() if metric.mean is not None}
    found = unbeaten(means, error=error, known=comparison.reference)
    where = "" if error == comparison.primary else f" in {title_of(error)}"
    by_all = [name for name, labels in found.items() if len(labels) == len(means)]
    blind = [name for name in by_all if name != reference_name("hold_last", error)]
    sentences = []
    if blind:
        sentences.append(
            f"No {comparison.compared} beats {_the(blind)}{where}: nothing shows that these policies use the images."
        )
    if len(blind) < len(by_all):
        # It gets the previous action, which the policies do not: they may use the images and still be no better.
        sentences.append(
            f"No {comparison.compared} beats the {title_of(reference_name('hold_last', error))}{where}: to repeat the "
            "action before, without any image, is as good."
        )
    sentences += [
        f"No better{where} than {_the([name])}, which sees no image: {listed(labels)}."
        for name, labels in found.items()
        if name not in by_all
    ]
    return sentences


def _the(names: Sequence[str]) -> str:
    return listed(f"the {title_of(name)}" for name in names)


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
