"""The scenario and fields of an episode, read from its file name with configurable grammars (regular expressions)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import regex
from regex import Pattern

from mobile_vla.errors import ConfigError

UNKNOWN = "unknown"


_MAX_LENGTH = 2000
"""Maximum number of characters of a grammar, because the compile time grows with its length."""

_MAX_SECONDS = 0.5
"""Time limit of one match. The shipped grammars take microseconds; a bad expression can take exponential time."""


def compile_grammars(grammars: Mapping[str, str]) -> dict[str, Pattern[str]]:
    """Return the compiled regular expressions by grammar name; an invalid one raises ``ConfigError`` with its name.

    The syntax is that of Python's ``re``. The package ``regex`` runs them, because only it has a timeout.
    """
    compiled = {}
    for name, expression in grammars.items():
        try:
            if len(expression) > _MAX_LENGTH:
                raise re.error(f"{len(expression)} characters, more than {_MAX_LENGTH}")
            re.compile(expression)  # rejects the syntax that only `regex` has
            compiled[name] = regex.compile(expression)
        except (re.error, regex.error, RecursionError, OverflowError) as error:
            raise ConfigError(
                f"dataset.grammars.{name}: not a regular expression ({error}): {expression[:500]!r}. Give a Python "
                "regular expression over the whole episode name, with the named group (?P<scenario>...) around the "
                "scenario."
            ) from error
    return compiled


def parse_name(name: str, grammars: Mapping[str, Pattern[str]]) -> tuple[str, dict[str, str]]:
    """Return (scenario, fields) of an episode name, from the first grammar that matches the whole name.

    The named group ``scenario`` is the scenario; all other named groups that matched are fields. The scenario is
    ``unknown`` where no grammar matches, or where the grammar has no group ``scenario`` (a bare time stamp). Raises
    ``ConfigError`` where a match takes longer than the time limit.
    """
    for key, pattern in grammars.items():
        try:
            match = pattern.fullmatch(name, timeout=_MAX_SECONDS)
        except TimeoutError as error:
            raise ConfigError(
                f"dataset.grammars.{key}: takes more than {_MAX_SECONDS} s to match the name {name!r}: "
                f"{pattern.pattern!r}. The cause is often a repeat inside a repeated group, such as (a+)+: write a+."
            ) from error
        if match:
            fields = {key: value for key, value in match.groupdict().items() if value is not None}
            return fields.pop("scenario", UNKNOWN), fields
    return UNKNOWN, {}


def task_of(fields: Mapping[str, str]) -> str:
    """Return the task of an episode: its field ``task``, or ``unknown`` where its name has none."""
    return fields.get("task", UNKNOWN)


_TASK_IN_NAME = re.compile(r"episode_\d{8}_\d{6}_\w*box_\w*_task_([^\W_]+)")


def task_in_name(name: str) -> str:
    """Return the task that the shipped grammars read from a name, ``unknown`` where there is none."""
    found = _TASK_IN_NAME.match(name)
    return found[1] if found else UNKNOWN


def matches_selector(selector: str, *, scenario: str, fields: Mapping[str, str]) -> bool:
    """Return whether ``selector``, a scenario's name or ``field=value``, selects this episode."""
    if "=" in selector:
        key, value = selector.split("=", 1)
        return fields.get(key) == value
    return scenario == selector
