"""Signals that nobody called binary and that have two values only: most likely switches, such as a gripper."""

from __future__ import annotations

import re

from mobile_vla.inspection.contents import Contents
from mobile_vla.process.typed_commands import typed

_KINDS = ("unknown", "position")
"""The kinds that may be wrong: a layout calls all joints of an arm positions, and its gripper with them."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_KEY = re.compile(r"(?=.*[A-Za-z_])[\w./+$%*@?|\\()\[\]{}:=,-]+", re.ASCII)
"""What can be a key of a dictionary on Hydra's command line, where keys cannot be in quotes."""


def two_valued(contents: Contents) -> list[str]:
    """Return a warning that names the used signals that have two values in all episodes, and how to say what they are.

    Nothing is assumed of them: what is a switch in these episodes may be a throttle that knew two speeds.
    """
    found = {
        entry.signal.name: f"{entry.signal.name} ({entry.smallest:g}, {entry.largest:g})"
        for entry in (*contents.actions, *contents.state)
        if entry.is_used and entry.num_values == 2 and entry.signal.kind in _KINDS
    }
    if not found:
        return []
    have = "has two values only; if it is a switch" if len(found) == 1 else "have two values only; if they are switches"
    overrides = _overrides([name for name in found if _KEY.fullmatch(name)])
    return [f"{', '.join(found.values())} {have}, say so in dataset.signals{f': {typed(overrides)}' * bool(overrides)}"]


def _overrides(names: list[str]) -> list[str]:
    if all(_IDENTIFIER.fullmatch(name) for name in names):
        return [f"dataset.signals.{name}={{kind: binary}}" for name in names]
    # A dot in the key of an override leads into a node below, so that the names stand in a dictionary.
    keys = [re.sub(r"([\\()\[\]{}:=,])", r"\\\1", name) for name in names]
    return ["dataset.signals={" + ", ".join(f"{key}: {{kind: binary}}" for key in keys) + "}"]
