"""Propose a grammar for episode names that no grammar reads: which part of the names tells episodes apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_TOKENS = re.compile(r"[^\W\d_]+|\d+|[\W_]+")
_MAX_VALUES = 12
"""Maximum number of scenarios that are listed in an expression; more are matched as any word."""

_MIN_EPISODES = 2
"""Minimum number of episodes a value, on average: a part that differs in almost every name is no scenario."""

_LEAST_SHARE = 0.8
"""Share of the names that must have one form."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A regular expression that reads ``scenario`` from the names, and the number of episodes of each scenario."""

    expression: str
    scenarios: dict[str, int]


def propose_grammar(names: Sequence[str]) -> Proposal | None:
    """Return a grammar for ``names`` by the words in which they differ; None where they show no groups.

    Names are cut into words, numbers and what stands between them: ``run_left_001`` differs in ``left``. A number
    counts as a word if it takes few values, such as in ``2box``, unless ``names`` repeat.
    """
    rows = [_TOKENS.findall(name) for name in names]
    forms = Counter(tuple(map(_kind, row)) for row in rows)
    if not forms:
        return None
    form, count = forms.most_common(1)[0]
    if count < _LEAST_SHARE * len(rows):
        return None
    columns = list(zip(*(row for row in rows if tuple(map(_kind, row)) == form), strict=True))
    # Files of the same names in several folders: the numbers count the episodes of each folder.
    is_numbered_anew = len(set(names)) < len(names)
    telling = [
        index
        for index, column in enumerate(columns)
        if _tells(column, form[index]) and not (is_numbered_anew and form[index] == "number")
    ]
    if not telling:
        return None
    first, last = telling[0], telling[-1]
    if any(_is_counter(column, form[index]) for index, column in enumerate(columns) if first < index < last):
        first = last = telling[0]
    scenarios = Counter("".join(parts) for parts in zip(*columns[first : last + 1], strict=True))
    if len(scenarios) * _MIN_EPISODES > count:
        return None
    inner = "|".join(map(re.escape, sorted(scenarios))) if len(scenarios) <= _MAX_VALUES else r"[^\W_]+(?:_[^\W_]+)*"
    parts = [
        *(_pattern(columns[index], form[index]) for index in range(first)),
        f"(?P<scenario>{inner})",
        *(_pattern(columns[index], form[index]) for index in range(last + 1, len(columns))),
    ]
    return Proposal(expression="".join(parts), scenarios=dict(scenarios.most_common()))


def _kind(token: str) -> str:
    return "number" if token.isdecimal() else "word" if token.isalpha() else token


def _tells(column: Sequence[str], kind: str) -> bool:
    num_values = len(set(column))
    if num_values < 2 or num_values * _MIN_EPISODES > len(column):
        return False
    return kind == "word" or (kind == "number" and not _is_counter(column, kind))


def _is_counter(column: Sequence[str], kind: str) -> bool:
    """Return whether numbers count episodes or tell the time: long ones, and those of many values."""
    return kind == "number" and (max(map(len, column)) > 2 or len(set(column)) > 3)


def _pattern(column: Sequence[str], kind: str) -> str:
    values = set(column)
    if len(values) == 1 and (kind != "number" or len(column[0]) <= 2):  # a longer number is a date or a counter
        return re.escape(column[0])
    return r"\d+" if kind == "number" else r"[^\W\d_]+"
