"""Overrides and commands as a person types them: quoted for Hydra, then for the shell, in lines that fit a terminal."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_PLAIN = re.compile(r"(\.\.?/)*[A-Za-z_/][A-Za-z0-9_/.:-]*")
"""Texts that Hydra reads as themselves without quotes, unless they are words with a meaning."""

_MEANINGFUL = re.compile(r"null|true|false|inf|nan", re.IGNORECASE)


def override(key: str, value: str | Sequence[str]) -> str:
    """Return ``KEY=VALUE`` that Hydra reads as exactly this text, or list of texts. It is not yet quoted for a shell.

    Both the command line and Hydra have quotes of their own: a path with a comma, or a regular expression, needs both.
    """
    if isinstance(value, str):
        return f"{key}={quoted(value)}"
    return f"{key}=[{','.join(map(quoted, value))}]"


def quoted(text: str) -> str:
    """Return ``text`` as a value of Hydra, in quotes where it would otherwise mean something else."""
    if _PLAIN.fullmatch(text) and not _MEANINGFUL.fullmatch(text):
        return text
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # else OmegaConf would look up what stands in the braces
    text = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + (f"\\{match[2]}" if match[2] else ""), text)
    return f"'{text}'"


def typed(words: Sequence[str], *, width: int | None = None, indent: str = "  ") -> str:
    r"""Return ``words`` as a shell reads them, each quoted where it must be.

    With ``width`` they are in lines of at most so many characters, broken between words with ``\``, so that all lines
    can be pasted at once. A single word that is longer stays whole.
    """
    if width is None:
        return " ".join(map(_for_shell, words))
    lines: list[str] = []
    for word in map(_for_shell, words):
        if lines and len(lines[-1]) + 1 + len(word) + 2 <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"{indent}{'  ' if lines else ''}{word}")
    return " \\\n".join(lines)


def _for_shell(word: str) -> str:
    """Return ``word`` in double quotes where it holds single ones, as shlex would write ``'"'"'`` for each of those."""
    if "'" in word and not re.search(r'["$`!]|\\(?:\\|$)', word):
        return f'"{word}"'
    return shlex.quote(word)
