"""Know which metrics are better when they are higher."""

from __future__ import annotations

import math
import re

_HIGHER_IS_BETTER = re.compile(r"closed_loop/[^/]+/success_(rate|low|high)(/.+)?|train/windows_per_s")
"""Errors are the rule: ``val/rmse/scenario_mean`` is better lower, ``closed_loop/seen/success_rate`` higher."""


def is_higher_better(metric: str) -> bool:
    """Whether more of ``metric`` is better; errors, losses and times are better lower."""
    return _HIGHER_IS_BETTER.fullmatch(metric) is not None


def is_better(metric: str, difference: float) -> bool:
    """Whether a value that is ``difference`` above another one is the better of the two; equal is not."""
    return difference > 0 if is_higher_better(metric) else difference < 0


def best_first(metric: str, value: float | None) -> float:
    """Return what sorts the best ``value`` of ``metric`` first and a missing one last."""
    if value is None:
        return math.inf
    return -value if is_higher_better(metric) else value
