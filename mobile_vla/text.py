"""Format numbers and lists for tables and messages: aligned columns, and a dash for a missing value."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

MISSING = "—"

MAX_WIDTH = 9
"""Maximum number of characters of a number in a column."""


@dataclass(frozen=True, kw_only=True)
class NumberFormat:
    """The number format of one column: all its numbers have the same number of decimals."""

    decimals: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> NumberFormat:
        """Return a format with 4 decimals, or 5 where the median size of ``values`` is below 0.01.

        The median, because one run that diverged must not change the format of the whole column.
        """
        magnitudes = [abs(value) for value in values if value is not None]
        is_small = bool(magnitudes) and statistics.median(magnitudes) < 0.01
        return cls(decimals=5 if is_small else 4)

    @property
    def differences(self) -> NumberFormat:
        """The format of differences: the same as that of the values."""
        return self

    def text(self, value: float | None, *, sign: str = "") -> str:
        """Return ``value`` in at most MAX_WIDTH characters.

        A value other than 0 is never written as 0 but with an exponent; a value of 100 or more has four significant
        digits instead of fixed decimals.
        """
        if value is None:
            return MISSING
        if value != 0 and (abs(value) < 0.5 * 10**-self.decimals or abs(value) >= 10_000):
            return f"{value:{sign}.1e}"
        return f"{value:{sign}.4g}" if abs(value) >= 100 else f"{value:{sign}.{self.decimals}f}"


@dataclass(frozen=True, kw_only=True)
class ShareFormat:
    """The format of shares (0 to 1): percent with one decimal, so that one drive in a thousand is visible."""

    unit: str = " %"

    @property
    def differences(self) -> ShareFormat:
        """The format of differences: percentage points without a unit, because the column heading names it."""
        return POINTS

    def text(self, value: float | None, *, sign: str = "") -> str:
        """Return for example ``95.3 %``; a value that rounds to 0 has no minus sign."""
        # Adding 0.0 turns -0.0 into 0.0.
        return MISSING if value is None else f"{round(100 * value, 1) + 0.0:{sign}.1f}{self.unit}"


POINTS = ShareFormat(unit="")
"""The format of differences of shares, in percentage points."""

Format = NumberFormat | ShareFormat


def interval_text(ends: tuple[float, float], numbers: Format) -> str:
    """Return ``[-0.0190, -0.0113]``: the two ends of an interval of differences."""
    low, high = (numbers.text(end, sign="+") for end in ends)
    return f"[{low}, {high}]"


def p_value(value: float | None) -> str:
    """Return a p value with three decimals, at most 6 characters: ``0.012`` or ``<0.001``."""
    if value is None:
        return MISSING
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def in_words(value: float | None) -> str:
    """Return a p value for use in a sentence: ``p 0.012`` or ``p < 0.001``."""
    text = p_value(value)
    return f"p < {text[1:]}" if text.startswith("<") else f"p {text}"


def count(value: float | None) -> str:
    """Return a number of windows with three digits: ``950``, ``48k`` or ``1.25M``."""
    if value is None:
        return MISSING
    # 0.9995: a value that three digits would round to 1000 takes the next unit (999,600 is "1M", not "1e+03k").
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """Return a duration with two or three digits: ``43 s``, ``12 min`` or ``3.2 h``."""
    if seconds is None:
        return MISSING
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def counted(number: int, what: str) -> str:
    """Return ``1 run`` or ``3 runs``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def listed(names: Iterable[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``.

    The separator is a semicolon where a name contains a comma: ``a; b, x=1 and c``.
    """
    *first, last = names
    separator = "; " if any("," in name for name in (*first, last)) else ", "
    return f"{separator.join(first)} and {last}" if first else last


def shortened(names: Collection[str], *, limit: int) -> str:
    """Return ``names`` as ``listed`` does, in at most ``limit`` entries: the last one counts the rest (``7 more``)."""
    names = list(names)
    if len(names) <= limit:
        return listed(names)
    return listed([*names[: limit - 1], f"{len(names) - limit + 1} more"])


def first_few(names: Sequence[str], *, limit: int = 5) -> str:
    """Return ``a, b``, or ``a, b, ...`` where there are more than ``limit`` names.

    For sentences that already state how many names there are.
    """
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def in_series(texts: Sequence[str], *, limit: int) -> str:
    """Return ``texts`` (which may contain commas) joined by semicolons; those beyond ``limit`` are only counted.

    Example: ``a, 1; b, 2; and 7 more``.
    """
    more = [f"and {len(texts) - limit} more"] if len(texts) > limit else []
    return "; ".join([*texts[:limit], *more])


def in_lines(text: str, *, width: int, indent: int = 2, more: int = 2) -> str:
    """Return ``text`` in lines of at most ``width`` characters, broken between words.

    The first line is indented by ``indent`` spaces, the others by ``more`` spaces more. A word that is longer than a
    line, such as a path, stays whole: a broken one cannot be copied.
    """
    lines = textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + more),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def sizes(*numbers: int) -> list[str]:
    """Return numbers of bytes as texts such as ``812 B`` or ``12.3 MiB``; different numbers give different texts."""
    # Otherwise "needs 1.2 GiB, and 1.2 GiB are free" would be possible: decimals are added until the texts differ.
    for decimals in (1, 2, 3):
        texts = [_size(number, decimals) for number in numbers]
        if len(set(texts)) == len(set(numbers)):
            return texts
    return [f"{number:,} B" for number in numbers]


def _size(number: int, decimals: int) -> str:
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= size:
            return f"{number / size:,.{decimals}f} {unit}"
    return f"{number} B"
