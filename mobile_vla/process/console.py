"""A console for texts that another person may have written: rich and the terminal execute no commands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment

_NOT_PRINTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except line ends and tabs, marks that change the text direction, and lone surrogates."""


def printable(text: str) -> str:
    r"""Return ``text`` with each character that controls a terminal or cannot be encoded as an escape like ``\x1b``."""
    return _NOT_PRINTED.sub(_written_out, text)


def new_console(*, is_stderr: bool = False, highlight: bool = True) -> Console:
    """Return a console that prints ``[bold]`` and ``:smile:`` as they are, and every text as ``printable`` gives it."""
    console = Console(stderr=is_stderr, markup=False, emoji=False, highlight=highlight)
    console.push_render_hook(_PrintableHook())
    return console


class _PrintableHook(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Printable(renderable) for renderable in renderables]


class _Printable:
    """A renderable whose texts are made printable after rich has laid them out: control codes for colours stay."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._inner, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
