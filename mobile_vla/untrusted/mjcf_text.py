"""Checks of an MJCF file's text before MuJoCo reads it: its size after all copies, and the files that it names."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import inside, read_limited

# The same pieces into which tinyxml2, MuJoCo's XML parser, splits a text. Python's XML parsers differ from it: they
# expand the entities that a document defines, which tinyxml2 does not know. The quantifiers are possessive (*+), so
# that a hostile text cannot cause catastrophic backtracking.
_PIECE = re.compile(
    r"""[^<]*+<(?:!--.*?-->|!\[CDATA\[.*?\]\]>|![^>]*+>|\?.*?\?>|/[^>]*+>"""
    r"""|(?P<name>[\w:.-]++)(?P<attributes>(?:\s*+[\w:.-]++\s*+=\s*+(?:"[^"]*+"|'[^']*+'))*+)\s*+(?P<empty>/?)>)""",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"""([\w:.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")

_MAX_ELEMENTS = 100_000
"""Maximum number of elements of a world including copies: MuJoCo compiles about ten thousand per second."""

_MAX_NUMBERS = {
    ("composite", "count"): 100_000,
    ("flexcomp", "count"): 100_000,
    ("texture", "width height"): 2**24,
    ("hfield", "nrow ncol"): 2**24,
    ("numeric", "size"): 2**20,
    ("size", "memory"): 2**29,
}
"""By element and attributes that determine how much memory MuJoCo allocates: the maximum product of their numbers."""

_MAX_SIZE = 2**20
"""Maximum of any other attribute of the element ``size``."""

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50, "E": 2**60}
_FOLDERS = ("meshdir", "texturedir", "assetdir")


@dataclass(frozen=True, kw_only=True)
class _Element:
    """A start tag: its place (file and line), name and attributes."""

    place: str
    name: str
    attributes: Mapping[str, str]
    is_empty: bool


@dataclass(kw_only=True)
class _Reading:
    """The state of the check: the files that were read or are named, and the number of elements including copies."""

    main: Path
    files: list[Path] = field(default_factory=list)
    folders: set[str] = field(default_factory=lambda: {""})
    named: list[tuple[str, Path, str]] = field(default_factory=list)
    num_elements: int = 0


def check_mjcf(path: Path) -> tuple[Path, ...]:
    """Return the MJCF file ``path`` and all files that it includes or refers to.

    Raises ``UserError``, which names the line, for numbers of copies and sizes far above those of a world to drive in,
    and for files outside the folder of ``path``. Other errors are left to MuJoCo; costs that are not known here are
    found by the trial compilation (``mjcf_trial``).
    """
    reading = _Reading(main=path)
    _read(path, reading)
    # After all files are read, because a <compiler> in any of them can set the folders of meshes and textures. MuJoCo's
    # rule for which folder applies is not repeated here: every candidate that exists is checked.
    for place, folder, name in reading.named:
        for where in sorted({folder / below for below in reading.folders} | {path.parent}):
            if (where / name).is_file():
                _check_inside(path.parent, where / name, place)
                reading.files.append(where / name)
    return tuple(dict.fromkeys(reading.files))


def _read(path: Path, reading: _Reading) -> None:
    """Check a file and, recursively, the files that it includes; add them to ``reading``. A file is read once."""
    reading.files.append(path)
    # How often an element at each open level is copied; floats, because a count may be written as 1e300.
    copies = [1.0]
    for element in _elements(path):
        if element is None:
            if len(copies) > 1:
                copies.pop()
            continue
        factor = _number(element.attributes.get("count")) if element.name == "replicate" else 1.0
        reading.num_elements += math.ceil(min(copies[-1] * factor, _MAX_ELEMENTS + 1))
        if reading.num_elements > _MAX_ELEMENTS:
            raise UserError(
                f"{element.place}: with <{element.name}> the world has more than {_MAX_ELEMENTS:,} elements, copies "
                "counted; expected a world that a robot can drive in. Lower the count."
            )
        if not element.is_empty:
            copies.append(copies[-1] * factor)
        _check_numbers(element)
        _take_up_names(element, path, reading)


def _take_up_names(element: _Element, path: Path, reading: _Reading) -> None:
    for key, value in element.attributes.items():
        if element.name == "compiler" and key in _FOLDERS:
            reading.folders.add(value)
        if key.startswith("file") and value:
            reading.named.append((element.place, path.parent, value))
        if key == "file" and element.name in ("include", "model"):
            for where in {path.parent, reading.main.parent}:
                if (where / value).is_file():
                    _check_inside(reading.main.parent, where / value, element.place)
                    if (where / value) not in reading.files:
                        _read(where / value, reading)


def _elements(path: Path) -> Iterator[_Element | None]:
    """Yield an element for every start tag of a file, and None for every end tag."""
    text = read_limited(path).decode("utf-8", "surrogateescape")
    position, line = 0, 1
    while piece := _PIECE.match(text, position):
        start = text.index("<", position)
        line += text.count("\n", position, start)
        if piece["name"]:
            attributes = {
                key: html.unescape(one or other) for key, one, other in _ATTRIBUTE.findall(piece["attributes"])
            }
            place = f"{path}: line {line}"
            yield _Element(place=place, name=piece["name"], attributes=attributes, is_empty=bool(piece["empty"]))
        elif text.startswith("</", start):
            yield None
        line += text.count("\n", start, piece.end())
        position = piece.end()
    if "<" in text[position:]:
        line += text.count("\n", position, text.index("<", position))
        raise UserError(f"{path}: MuJoCo cannot compile it: line {line} holds a '<' that begins no tag")


def _check_numbers(element: _Element) -> None:
    limits = {keys: limit for (name, keys), limit in _MAX_NUMBERS.items() if name == element.name}
    if element.name == "size":
        limits |= {key: _MAX_SIZE for key in element.attributes if key not in limits}
    for keys, limit in limits.items():
        values = [element.attributes[key] for key in keys.split() if key in element.attributes]
        product = math.prod(_number(text) for value in values for text in value.split())
        if product > limit:
            raise UserError(
                f"{element.place}: <{element.name}> has {keys} {' '.join(values)}, more than {limit:,} together; "
                "expected what a world to drive in needs. Lower it."
            )


def _number(text: str | None) -> float:
    """Return the number in ``text``, at least 1; return 1 where there is none, as MuJoCo reports what is wrong."""
    text = (text or "").strip()
    unit = _UNITS.get(text[-1:].upper(), 1)
    try:
        value = float(text.rstrip("KMGTPEkmgtpe") if unit > 1 else text) * unit
    except ValueError:
        return 1.0
    return max(value, 1.0) if not math.isnan(value) else 1.0


def _check_inside(folder: Path, path: Path, place: str) -> None:
    try:
        inside(folder, path.absolute())
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
