"""Write the sentences on differences to the baseline: how sure they are, and how large a difference was detectable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median, median_low

from mobile_vla.compare.data.closed_loop import suite_of
from mobile_vla.compare.data.comparison import Comparison, Row
from mobile_vla.compare.statistics.estimates import PairedDifference
from mobile_vla.compare.statistics.significance import detectable_difference
from mobile_vla.compare.verdict.slices import Losses, losses_of
from mobile_vla.metric_text import size
from mobile_vla.metrics import is_better, part_of
from mobile_vla.text import counted, in_series, in_words, shortened

MAX_NAMED = 6
"""A sentence names at most this many treatments, and counts the rest."""

MAX_SLICES = 3


def effect_sentences(comparison: Comparison) -> list[str]:
    """Return sentences on the treatments that are better or worse than the baseline or not distinguishable from it.

    They also name the parts of the val data on which the better ones are worse.
    """
    if not comparison.ranked:
        return [f"No finished run has {comparison.primary}: there is nothing to compare."]
    if comparison.is_by_setting:
        return [
            f"'{comparison.baseline}' was run under several other choices: each treatment is held against it under its "
            "own."
        ]
    if comparison.baseline_row is None:
        return [
            f"The baseline '{comparison.baseline}' is not among the finished runs, so the differences are left empty. "
            f"Choose one of: {'; '.join(row.label for row in comparison.ranked)}."
        ]
    others = {row.label: row for row in comparison.ranked if row.label != comparison.baseline}
    if not others:
        return [f"Only {comparison.baseline} finished: there is nothing to compare it with."]
    differences = {
        label: difference
        for label, row in others.items()
        if (difference := row.metrics[comparison.primary].difference) and difference.is_judged
    }
    winners = [
        others[label]
        for label, one in differences.items()
        if one.is_significant and is_better(comparison.primary, one.mean or 0)
    ]
    sentences = [
        _claims(comparison, {label: one for label, one in differences.items() if one.is_sure}, "Surely"),
        _claims(comparison, {label: one for label, one in differences.items() if _is_hint(one)}, "Indicative only:"),
        _tests(comparison, differences),
        _untold(comparison, differences),
        _too_few(comparison, [label for label in others if label not in differences]),
        _parts(comparison, winners),
        _fits_less(comparison, winners),
        _of_these_episodes(differences),
    ]
    return [sentence for sentence in sentences if sentence]


def _is_hint(difference: PairedDifference) -> bool:
    return difference.is_significant and difference.is_indicative


def _claims(comparison: Comparison, differences: Mapping[str, PairedDifference], how: str) -> str:
    sides = {"better": [], "worse": []}
    for label, one in sorted(differences.items(), key=lambda item: -abs(item[1].mean or 0)):
        side = "better" if is_better(comparison.primary, one.mean or 0) else "worse"
        sides[side].append(f"{label} by {_size(comparison, abs(one.mean or 0))}, {in_words(one.adjusted_p_value)}")
    return " ".join(
        f"{how} {side} than {comparison.baseline} in {comparison.primary_title}: {in_series(texts, limit=MAX_NAMED)}."
        for side, texts in sides.items()
        if texts
    )


def _tests(comparison: Comparison, differences: Mapping[str, PairedDifference]) -> str:
    """Return a sentence that defines p, and gives the result of the sign-flip test, which assumes less."""
    claimed = [one for one in differences.values() if one.is_significant]
    if not claimed:
        return ""
    fewest = min(one.num_pairs for one in claimed)
    largest = max(one.p_value or 0 for one in claimed)
    # Of the 2^n sign flips, at least two are as extreme as the observed one: itself and its opposite.
    floor = 2 / 2**fewest
    flips = (
        f"p {floor:.2g}, the smallest that {fewest} seeds allow"
        if largest <= floor
        else f"p {largest:.2g} or less, at best {floor:.2g}"
    )
    return (
        f"p: paired t test over {_pairs(claimed)}, adjusted by Holm over {family(comparison)}. The "
        f"sign-flip test, which needs no normal differences, gives {flips}."
    )


def _untold(comparison: Comparison, differences: Mapping[str, PairedDifference]) -> str:
    same = [label for label, one in differences.items() if one.is_equal]
    untold = {label: one for label, one in differences.items() if not one.is_significant and label not in same}
    parts = []
    if same:
        verb = "is" if len(same) == 1 else "are"
        parts.append(f"{_names(same)} {verb} equal to {comparison.baseline} in every seed, to the last digit.")
    if untold:
        everyone = len(untold) == len(differences)
        parts.append(
            f"The data cannot tell these {comparison.compared}s apart from {comparison.baseline}: no adjusted p is "
            "below 0.05."
            if everyone and len(untold) > 1
            else f"The data cannot tell {_names(list(untold))} from {comparison.baseline}."
        )
        parts.append(_power(comparison, untold.values()))
    return " ".join(filter(None, parts))


def _power(comparison: Comparison, untold: Iterable[PairedDifference]) -> str:
    """Return a sentence on the size of a true difference that would have been found; empty without any spread.

    The median over the treatments is given, because each has its own spread over seeds.
    """
    spread = [one for one in untold if one.interval is not None]
    if not spread:
        return ""
    smallest = median(
        detectable_difference(one.spread or 0.0, num_pairs=one.num_pairs, num_comparisons=comparison.num_tests)
        for one in spread
    )
    num_seeds = median_low(one.num_pairs for one in spread)
    return (
        f"With {num_seeds} seeds and {family(comparison)}, a true difference of "
        f"{_size(comparison, smallest)} would have been found four times in five; a smaller one may well exist."
    )


def _too_few(comparison: Comparison, labels: Sequence[str]) -> str:
    if not labels:
        return ""
    seeds = f"Fewer than two seeds in common with {comparison.baseline}"
    return f"{seeds}, so nothing can be concluded about {_names(labels)}."


def _parts(comparison: Comparison, winners: Sequence[Row]) -> str:
    """Return a sentence on the parts of the val data where the better treatments are worse."""
    losses = {row.label: losses_of(row, comparison.primary) for row in winners}
    num_slices = max((one.num_slices for one in losses.values()), default=0)
    if not num_slices:
        return ""
    losing = [f"{label} in {_where(comparison, one)}" for label, one in losses.items() if one.by_slice]
    if not losing:
        kinds = "scenario" if suite_of(comparison.primary) else "scenario, phase, horizon, critical"
        return f"None of the better ones is worse on any of {counted(num_slices, 'slice')} ({kinds})."
    # A 95 % interval lies wholly on the worse side of 0 by chance in 2.5 % of slices without an effect.
    chance = 0.025 * num_slices
    return (
        f"Better overall, worse on slices: {in_series(losing, limit=MAX_NAMED)} (95 % intervals that exclude 0; of "
        f"{counted(num_slices, 'slice')} about {chance:.1f} would by chance)."
    )


def _where(comparison: Comparison, losses: Losses) -> str:
    texts = [f"{part} by {size(comparison.primary, abs(loss))}" for part, loss in losses.by_slice.items()]
    return shortened(texts, limit=MAX_SLICES)


def _fits_less(comparison: Comparison, winners: Sequence[Row]) -> str:
    """Return a sentence on the better treatments that are worse on the windows they were trained on."""
    probe = part_of(comparison.val_error, "probe")
    texts = [
        f"{row.label} by {one.mean:.2g}"
        for row in winners
        if probe in row.metrics
        and (one := row.metrics[probe].difference) is not None
        and one.mean is not None
        and one.excludes_zero
        and one.mean > 0
    ]
    if not texts:
        return ""
    return (
        f"Better, and yet worse on a sample of the train windows ({probe}): {in_series(texts, limit=MAX_NAMED)}. A "
        "policy that fits its own data less and does better elsewhere reads like regularisation, not like seeing more."
    )


def _of_these_episodes(differences: Mapping[str, PairedDifference]) -> str:
    shaky = [
        label
        for label, one in differences.items()
        if one.is_significant and one.episode_interval and one.episode_interval[0] <= 0 <= one.episode_interval[1]
    ]
    if not shaky:
        return ""
    return (
        f"With other val episodes the result might be different for {_names(shaky)}: the interval over episodes, "
        "bootstrapped with these trained policies, contains 0."
    )


def _size(comparison: Comparison, difference: float) -> str:
    row = comparison.baseline_row
    return size(comparison.primary, difference, reference=row.metrics[comparison.primary].mean if row else None)


def _pairs(differences: Sequence[PairedDifference]) -> str:
    numbers = sorted({one.num_pairs for one in differences})
    return f"{numbers[0]} seeds" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds"


def family(comparison: Comparison) -> str:
    """Return the family of tests that Holm's method corrects for, in words, such as ``9 samplers``.

    If some treatments are also compared with a control, the family is all comparisons.
    """
    if comparison.controls:
        return f"{counted(comparison.num_tests, 'comparison')} (with {comparison.baseline} and with controls)"
    return counted(comparison.num_tests, comparison.compared)


def _names(labels: Sequence[str]) -> str:
    return shortened(labels, limit=MAX_NAMED)
