"""Read an episode's scenario from its file name with configurable grammars."""

from __future__ import annotations

import re
from collections.abc import Mapping

import regex
from regex import Pattern

from mobile_vla.errors import ConfigError

UNKNOWN = "unknown"


_MAX_LENGTH = 2000
"""Characters of a grammar: the time that compiling takes grows with them."""

_MAX_SECONDS = 0.5
"""Of one match: those of the shipped grammars take microseconds."""


def compile_grammars(grammars: Mapping[str, str]) -> dict[str, Pattern[str]]:
    """Compile regular expressions by grammar name; an invalid one is a ``ConfigError`` that names it.

    They are those of Python's ``re``; the module ``regex`` runs them, as it can give up after a time.
    """
    compiled = {}
    for name, expression in grammars.items():
        try:
            if len(expression) > _MAX_LENGTH:
                raise re.error(f"{len(expression)} characters, more than {_MAX_LENGTH}")
            re.compile(expression)
            compiled[name] = regex.compile(expression)
        except (re.error, regex.error, RecursionError, OverflowError) as error:
            raise ConfigError(
                f"dataset.grammars.{name}: not a regular expression ({error}): {expression[:500]!r}. Give a Python "
                "regular expression over the whole episode name, with the named group (?P<scenario>...) around the "
                "scenario."
            ) from error
    return compiled


def parse_name(name: str, grammars: Mapping[str, Pattern[str]]) -> tuple[str, dict[str, str]]:
    """Return (scenario, fields) of an episode name: the first grammar that matches the whole name decides.

    The named group ``scenario`` is the scenario; all other named groups that took part are fields. A name that no
    grammar matches, or one whose grammar has no scenario (a bare time stamp), is ``unknown``. Raises ``ConfigError``
    where a grammar tries for longer than any should.
    """
    for key, pattern in grammars.items():
        try:
            match = pattern.fullmatch(name, timeout=_MAX_SECONDS)
        except TimeoutError as error:
            raise ConfigError(
                f"dataset.grammars.{key}: takes more than {_MAX_SECONDS} s to match the name {name!r}: "
                f"{pattern.pattern!r}. A repeated group that holds a repeat, such as (a+)+, does that; write one."
            ) from error
        if match:
            fields = {key: value for key, value in match.groupdict().items() if value is not None}
            return fields.pop("scenario", UNKNOWN), fields
    return UNKNOWN, {}


def task_of(fields: Mapping[str, str]) -> str:
    """Return what an episode's instruction asks for: the named group ``task``, or ``unknown`` where it took no part."""
    return fields.get("task", UNKNOWN)


def matches_selector(selector: str, *, scenario: str, fields: Mapping[str, str]) -> bool:
    """Tell whether ``selector``, a scenario's name or ``field=value``, picks this episode."""
    if "=" in selector:
        key, value = selector.split("=", 1)
        return fields.get(key) == value
    return scenario == selector
