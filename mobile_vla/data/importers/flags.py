"""Command-line flags made from the fields of an options dataclass, and the options made from the parsed flags."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Options = TypeVar("Options")


def add_flags(parser: argparse.ArgumentParser, options_class: type) -> None:
    """Add a ``--flag`` for each field: ``--flag/--no-flag`` for a bool; ``none`` is a value where None is allowed."""
    hints = get_type_hints(options_class)  # entry.type is only text, because of `from __future__ import annotations`
    for entry in fields(options_class):
        flag = "--" + entry.name.replace("_", "-")
        default = entry.default if isinstance(entry.default, str) else str(entry.default).lower()
        text = f"{entry.metadata['meaning']} (default: {default})".replace("%", "%%")
        if hints[entry.name] is bool:
            parser.add_argument(flag, default=entry.default, action=argparse.BooleanOptionalAction, help=text)
        else:
            parser.add_argument(flag, default=entry.default, type=_reader(hints[entry.name]), help=text)


def options_from(args: argparse.Namespace, options_class: type[Options]) -> Options:
    """Return the options made from parsed arguments; the class itself checks the values."""
    return options_class(**{entry.name: getattr(args, entry.name) for entry in fields(options_class)})  # pyright: ignore


def _reader(hint: Any) -> Callable[[str], Any]:
    """Return a function from a flag's text to a value of type ``hint``, which is a plain type or ``type | None``."""
    if get_origin(hint) is not UnionType:
        return hint
    (kind,) = (part for part in get_args(hint) if part is not NoneType)

    def read(text: str) -> Any:
        return None if text.lower() == "none" else kind(text)

    read.__name__ = f"{kind.__name__} or none"  # argparse shows this name in its error messages
    return read
