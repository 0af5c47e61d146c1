"""Texts of data sets in HTML: escaped, isolated and of bounded length."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

_MAX_LENGTH = 400

_NOT_PRINTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that change the direction of what follows."""

_OPTION = re.compile(r"--\w+")


def plain(text: str, *, limit: int = _MAX_LENGTH) -> str:
    """Return ``text`` in one line of at most about ``limit`` characters, without characters that are not printed."""
    clean = _NOT_PRINTED.sub("\N{REPLACEMENT CHARACTER}", " ".join(text[: 2 * limit].split()))
    if len(text) <= limit:
        return clean
    return f"{clean[:limit]}… ({len(text):,} characters)"


def html_text(text: str, *, limit: int = _MAX_LENGTH) -> str:
    """Return ``text`` as HTML; its direction does not change that of what stands around it."""
    return f"<bdi>{escape(plain(text, limit=limit))}</bdi>"


def section(id: str, title: str, caption: str, body: str) -> str:
    """Return a section of the page; ``caption`` is a text, ``body`` is HTML."""
    # A line break within an option's name would make another option of it.
    whole = _OPTION.sub(r'<span class="option">\g<0></span>', escape(caption))
    words = f'<p class="caption">{whole}</p>' if caption else ""
    return f'<section id="{id}"><h2>{escape(title)}</h2>{words}{body}</section>'


def shares_table(caption: str, counts: Mapping[str, int], *, whole: int | None = None, limit: int = 24) -> str:
    """Return a table of ``counts`` with a bar for each, in their order; those beyond ``limit`` are only counted.

    The shares are of ``whole``, by default of the sum of the counts.
    """
    whole, top = whole or sum(counts.values()) or 1, max(counts.values(), default=1) or 1
    shown = list(counts.items())[:limit]
    rows = "".join(
        f'<tr><th scope="row">{html_text(name, limit=120)}</th><td class="number">{count:,}</td>'
        f'<td class="number">{100 * count / whole:.0f}&nbsp;%</td>'
        f'<td class="bar">{_bar(count / top)}</td></tr>'
        for name, count in shown
    )
    more = f'<p class="note">and {len(counts) - len(shown)} more</p>' if len(counts) > len(shown) else ""
    return f'<div class="share"><h3>{escape(caption)}</h3><table><tbody>{rows}</tbody></table>{more}</div>'


def _bar(share: float) -> str:
    return f'<span style="width:{100 * share:.1f}%"></span>' if share else ""


def listed_html(texts: Sequence[str], *, limit: int = 60) -> str:
    """Return ``texts`` as a list; nothing where there are none."""
    if not texts:
        return ""
    more = f"<li>and {len(texts) - limit} more</li>" if len(texts) > limit else ""
    return f"<ul>{''.join(f'<li>{html_text(text, limit=1000)}</li>' for text in texts[:limit])}{more}</ul>"
