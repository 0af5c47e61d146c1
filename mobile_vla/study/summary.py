"""Read the summary of a run, whether it is finished, unfinished or has none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mobile_vla.errors import UserError
from mobile_vla.metrics import ERROR, part_of
from mobile_vla.untrusted.files import inside, read_json

BEST_BY = "best_by"
"""The key of a summary with the name of the error that decides for the run's data: ``val/rmse`` or ``val/nrmse``."""


def read_summary(run: Path) -> dict[str, Any]:
    """Return ``summary.json`` of the folder ``run``; empty if there is none. Raises ``UserError`` if it is damaged."""
    try:
        found = read_json(inside(run, "summary.json"))
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{run / 'summary.json'}: holds a {type(found).__name__}; expected an object. Remove it.")
    return found


def objective_of(measured: Mapping[str, Any]) -> float:
    """Return the value that a sweeper may minimise, from a summary or from the last metrics with its BEST_BY.

    It is the error that decides, on the inner episodes if they are measured: hyperparameters are tuned on these and
    never on val. It is NaN if it is missing or not finite; a summary has null in place of a number that is not finite.
    """
    error = str(measured.get(BEST_BY, ERROR))
    value = next((measured[key] for key in (part_of(error, "inner"), error) if key in measured), None)
    return math.nan if value is None else value
