"""Read an episode's scenario from its file name with configurable grammars."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mobile_vla.errors import ConfigError

UNKNOWN = "unknown"


def compile_grammars(grammars: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    """Compile regular expressions by grammar name; an invalid one is a ``ConfigError`` that names it."""
    compiled = {}
    for name, expression in grammars.items():
        try:
            compiled[name] = re.compile(expression)
        except re.error as error:
            raise ConfigError(
                f"dataset.grammars.{name}: not a regular expression ({error}): {expression!r}. Give a Python regular "
                f"expression over the whole episode name, with the named group (?P<scenario>...) around the scenario."
            ) from error
    return compiled


def parse_name(name: str, grammars: Mapping[str, re.Pattern[str]]) -> tuple[str, dict[str, str]]:
    """Return (scenario, fields) of an episode name: the first grammar that matches the whole name decides.

    The named group ``scenario`` is the scenario; all other named groups that took part are fields. A name that no
    grammar matches, or one whose grammar has no scenario (a bare time stamp), is ``unknown``.
    """
    for pattern in grammars.values():
        match = pattern.fullmatch(name)
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
