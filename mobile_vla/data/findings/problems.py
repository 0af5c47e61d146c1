"""The errors of recordings, in one message that says what is to be done about each kind of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mobile_vla.errors import DataError, MissingEpisodesError, UnreadableNowError
from mobile_vla.text import counted

_SIZES = re.compile(r"\[\d+(?:, \d+)*\]")
"""Shapes of data sets in messages."""

_MAX_REPEATED = 200
"""Number of characters from which a message is not repeated for each file: that of keys not found lists them all."""


def summarise_problems(problems: Sequence[DataError]) -> str:
    """Return one message that lists all problems, one per line: damaged, missing and temporarily unreadable apart."""
    bad, missing, passing = kinds_of(problems)
    blocks = [
        f"{what}:\n" + "\n".join(f"  {text}" for text in _once(listed)) + f"\n{remedy}"
        for listed, what, remedy in (
            (bad, f"{len(bad)} episode file(s) cannot be used", "Mend or remove them"),
            (missing, f"{sum(p.num_episodes for p in missing)} episode(s) are missing", "Copy them"),
            (passing, f"{len(passing)} episode file(s) cannot be read now, and may be good", "Mend the causes"),
        )
        if listed
    ]
    return "\n".join(f"{block}, or set dataset.on_bad_episode=skip to go on without them." for block in blocks)


def kinds_of(
    problems: Sequence[DataError],
) -> tuple[list[DataError], list[MissingEpisodesError], list[UnreadableNowError]]:
    """Return the damaged, the missing and the temporarily unreadable ones."""
    missing = [problem for problem in problems if isinstance(problem, MissingEpisodesError)]
    passing = [problem for problem in problems if isinstance(problem, UnreadableNowError)]
    return [p for p in problems if not isinstance(p, MissingEpisodesError | UnreadableNowError)], missing, passing


def _once(problems: Sequence[DataError]) -> list[str]:
    """Return the texts of ``problems``; what is said at length of several files is said of the first of them.

    The others are listed by their paths. Shapes may differ: files of one unknown layout have other numbers of frames.
    What is said of several episodes of one file is said once, with their number.
    """
    counts = Counter(map(str, problems))
    alike: dict[str, list[str]] = {}
    for problem in counts:
        finding = problem.partition(": ")[2]
        alike.setdefault(_SIZES.sub("[]", finding) if len(finding) > _MAX_REPEATED else problem, []).append(problem)
    texts = []
    for first, *others in alike.values():
        texts.append(first if counts[first] == 1 else f"{first} ({counts[first]} episodes of this file)")
        if others:
            paths = ", ".join(other.partition(": ")[0] for other in others)
            texts.append(f"and the same of {counted(len(others), 'other file')}: {paths}")
    return texts
