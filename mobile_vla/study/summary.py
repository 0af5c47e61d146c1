"""Read what a run's summary says, whatever state the run is in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mobile_vla.errors import UserError
from mobile_vla.metrics import ERROR, INNER
from mobile_vla.untrusted.files import inside, read_json

OBJECTIVES = (INNER, ERROR)
"""What ``run.py`` returns: the first that was measured. Whoever tunes holds out inner episodes, and never uses val."""


def read_summary(run: Path) -> dict[str, Any]:
    """Return ``summary.json`` of the folder ``run``; empty where there is none; ``UserError`` where it is damaged."""
    try:
        found = read_json(inside(run, "summary.json"))
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{run / 'summary.json'}: holds a {type(found).__name__}; expected an object. Remove it.")
    return found


def objective_of(measured: Mapping[str, Any]) -> float:
    """Return what a sweeper may minimise of a summary or of the last metrics; NaN where it is missing or not finite."""
    value = next((measured[key] for key in OBJECTIVES if key in measured), None)
    return math.nan if value is None else value
