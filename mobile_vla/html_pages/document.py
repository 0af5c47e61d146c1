"""Assemble an HTML page: one file that loads no other file, so that it works without a network and from a disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files as package_files
from string import Template


def html_document(*, title: str, style: str, body: str, data: Mapping[str, object], scripts: Sequence[str]) -> str:
    """Return the whole page.

    ``style`` is added to the style sheet that all pages share. ``body`` and ``scripts`` are HTML and JavaScript, with
    all texts of somebody else escaped. Scripts read ``data`` as JSON from the element ``page-data``.
    """
    return Template(_own("document.html")).substitute(
        title=escape(title),
        style=_own("shared.css") + style,
        body=body,
        data=_json(data),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def asset(package: str, name: str) -> str:
    """Return the text of the file ``name`` in the folder ``assets`` of ``package``."""
    return package_files(package).joinpath("assets", name).read_text(encoding="utf-8")


def _own(name: str) -> str:
    return asset("mobile_vla.html_pages", name)


def _json(data: Mapping[str, object]) -> str:
    """Return JSON without "<", so that a text such as "</script>" in the data cannot end the script element."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
