"""Safe reading of YAML from other people: limited size and depth, no alias bombs, no cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import read_limited

MAX_BYTES = 512 * 2**10
"""Maximum size of a config; a resolved config of this package has about 6 KiB."""

MAX_NODES = 20_000
"""Maximum number of values of a config with every alias written out; a config of this package has about 300."""

MAX_DEPTH = 50

_MAX_SCALAR = 20_000
"""Maximum number of characters of one value: parsing YAML's base-60 numbers takes quadratic time."""

# Both loaders give the same result; the one in C is ten times as fast.
_Loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in the YAML file ``path`` as plain containers; ``${...}`` in it remains text.

    Raises ``UserError`` as ``checked_text`` does.
    """
    text = checked_text(path, has_interpolations=True)
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: is not YAML that can be read ({_in_a_line(error)})") from error


def checked_text(path: Path, *, has_interpolations: bool) -> str:
    """Return the text of the YAML file ``path``, after checks that it is one mapping of limited size.

    Raises ``UserError``, which names the file and the line, where it is too large or too deep (with aliases written
    out), contains itself through an alias, is not UTF-8 or not YAML. Without ``has_interpolations``, a value with
    ``${...}`` is an error too, because it would be replaced by a value of this computer, such as an environment
    variable.
    """
    try:
        text = read_limited(path, max_bytes=MAX_BYTES).decode("utf-8")
        if not _measure(_events(text), path, has_interpolations=has_interpolations):
            raise UserError(f"{path}: holds no YAML mapping; expected key: value")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 ({error})") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not YAML that can be read ({_in_a_line(error)})") from error
    return text


@dataclass
class _Open:
    """A mapping or sequence that is not closed yet: its anchor, and the number of nodes in it so far."""

    anchor: str | None
    size: int = 1


@dataclass
class _Count:
    """The state of the check: the number of nodes of each anchor, and the collections that are not closed yet."""

    is_mapping: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    open: list[_Open] = field(default_factory=lambda: [_Open(None, 0)])

    def add(self, size: int, anchor: str | None) -> None:
        """Count a complete node of ``size`` nodes, and record its size for ``anchor`` where it has one."""
        if anchor is not None:
            self.sizes[anchor] = size
        self.open[-1].size += size


def _events(text: str) -> Iterator[Any]:
    """Yield the YAML events of the text; no Python objects are built from them."""
    return yaml.parse(text, _Loader)


def _measure(events: Iterator[Any], path: Path, *, has_interpolations: bool) -> bool:
    """Return whether the document is a mapping; raise ``UserError`` where it exceeds the limits."""
    count = _Count()
    for event in events:
        place = f"{path}: line {event.start_mark.line + 1}"
        if isinstance(event, yaml.CollectionStartEvent):
            count.is_mapping |= len(count.open) == 1 and isinstance(event, yaml.MappingStartEvent)
            count.open.append(_Open(event.anchor))
            if event.anchor is not None:
                count.sizes.pop(event.anchor, None)
            if len(count.open) - 1 > MAX_DEPTH:
                raise UserError(f"{place}: is nested more than {MAX_DEPTH} deep, which no such file is")
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = count.open.pop()
            count.add(closed.size, closed.anchor)
        elif isinstance(event, yaml.AliasEvent):
            count.add(_aliased(event.anchor, count, place), None)
        elif isinstance(event, yaml.ScalarEvent):
            _check_scalar(event.value, place, has_interpolations=has_interpolations)
            count.add(1, event.anchor)
        if sum(each.size for each in count.open) > MAX_NODES:
            raise UserError(f"{place}: holds more than {MAX_NODES:,} values with its aliases (*name) written out")
    return count.is_mapping


def _aliased(anchor: str, count: _Count, place: str) -> int:
    if any(each.anchor == anchor for each in count.open):
        raise UserError(f"{place}: *{anchor} is inside the value that it repeats (&{anchor}), so it has no end")
    if anchor not in count.sizes:
        raise UserError(f"{place}: *{anchor} repeats nothing; expected &{anchor} before it")
    return count.sizes[anchor]


def _check_scalar(value: str, place: str, *, has_interpolations: bool) -> None:
    if len(value) > _MAX_SCALAR:
        raise UserError(f"{place}: a value of {len(value):,} characters, more than the {_MAX_SCALAR:,} of any config")
    if "${" in value and not has_interpolations:
        raise UserError(
            f"{place}: {value[:80]!r} would be replaced by something of this machine. In a file that may be somebody "
            "else's nothing is replaced: write the value itself."
        )


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
