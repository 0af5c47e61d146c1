"""A summary of the episodes' instructions and their sources, and warnings about unusual ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from mobile_vla.data.labels.instruction import UNSTATED
from mobile_vla.process.typed_commands import override
from mobile_vla.schema import Episode
from mobile_vla.text import shortened

_MAX_LINES = 4
_MAX_LENGTH = 44
"""Maximum number of lines, and of characters of one text: a line fits into a terminal of 80 columns."""

_BYTES_AS_TEXT = re.compile(r"""(?<!\w)b(['"]).*\1""", re.DOTALL)
"""Matches the text that Python's ``str()`` returns for bytes: ``b'...'``."""


def instruction_lines(episodes: Sequence[Episode]) -> list[str]:
    """Return the most frequent instructions, one per line, with the number of episodes and the source of each."""
    counts = Counter((e.instruction, _kind(e)) for e in episodes).most_common()
    shown = counts if len(counts) <= _MAX_LINES else counts[: _MAX_LINES - 1]
    lines = [f"{count} x {_cut(text)} ({source})" for (text, source), count in shown]
    rest = counts[len(shown) :]
    if rest:
        by_source: Counter[str] = Counter()
        for (_, source), _count in rest:
            by_source[source] += 1
        lines.append(f"... and {', '.join(f'{number} more ({source})' for source, number in by_source.items())}")
    return lines


def odd_instructions(episodes: Sequence[Episode]) -> list[str]:
    """Return warnings for mixed sources, for similar names that may hold the instruction, and for bytes as text."""
    found = []
    sources = Counter(e.instruction_place or e.instruction_source for e in episodes)
    if len(sources) > 1:
        listed = ", ".join(f"{number} from the {source}" for source, number in sources.most_common())
        found.append(
            f"mixed sources of the instructions: {listed}. Record them all in one way, or change "
            "dataset.instruction.order"
        )
    for name, holders in _holders_of_similar_names(episodes).items():
        source = holders[0].instruction_source
        found.append(
            f"{len(holders)} episode(s), such as that of {holders[0].path}, have the {name}, which is not read: their "
            f"instruction is made from dataset.instruction.{source}. If it holds the instruction, set {_remedy(name)}"
        )
    unstated = [e for e in episodes if e.instruction_source == "constant" and e.instruction == UNSTATED]
    if unstated:
        found.append(
            f"{len(unstated)} of {len(episodes)} episodes have no recorded instruction, and get {_cut(UNSTATED)}. Say "
            "what they show, as a policy learns this text: dataset.instruction.constant='Pick up the red cube'"
        )
    as_text = [e for e in episodes if _BYTES_AS_TEXT.search(e.instruction)]
    if as_text:
        found.append(
            f"{len(as_text)} instruction(s) hold bytes written as text, such as {_cut(as_text[0].instruction)} in "
            f"{shortened([str(e.path) for e in as_text], limit=2)}: the b and the quotes are learnt too. Write "
            "text.decode() in place of str(text) where the files are made"
        )
    return found


def _kind(episode: Episode) -> str:
    """Return the kind of the place where the instruction is: a key, an attribute, a task, a topic."""
    return (episode.instruction_place or episode.instruction_source).split(" ", 1)[0]


def _remedy(similar: str) -> str:
    """Return the option that reads ``similar``, which is the kind of the place and its name in quotes."""
    kind, _, name = similar.partition(" ")
    name = name.strip("'")
    if kind == "topic":
        return override("dataset.bag.instruction_topic", name)
    return override("dataset.layout.instruction", [f"@{name}" if kind == "attribute" else name])


def _holders_of_similar_names(episodes: Sequence[Episode]) -> dict[str, list[Episode]]:
    holders: dict[str, list[Episode]] = {}
    for episode in episodes:
        for name in episode.similar_names:
            holders.setdefault(name, []).append(episode)
    return dict(sorted(holders.items(), key=lambda item: -len(item[1]))[:3])


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= _MAX_LENGTH else f'"{line[: _MAX_LENGTH - 3]}..."'
