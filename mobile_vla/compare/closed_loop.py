"""Know the closed loop's keys of ``summary.json``, and which runs drove from the same initial states."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mobile_vla.compare.runs import Run

FIRST_SUITES = ("seen", "unseen")
"""They lead wherever suites are listed; the others follow by name."""

_KEY = re.compile(r"closed_loop/(?P<suite>[^/]+)/(?P<figure>.+)")


def success_key(suite: str) -> str:
    """Return the key of the share of drives that reached the goal, 0 to 1."""
    return f"closed_loop/{suite}/success_rate"


def states_key(suite: str) -> str:
    """Return the key of the text that is equal for equal initial states."""
    return f"closed_loop/{suite}/states"


def suite_of(key: str) -> str | None:
    """Return the suite whose drives the figure ``key`` was measured on, None for any other figure."""
    match = _KEY.fullmatch(key)
    return match["suite"] if match else None


def suite_of_success(key: str) -> str | None:
    """Return the suite whose whole share of drives that reached the goal ``key`` is, None for any other figure."""
    suite = suite_of(key)
    return suite if suite is not None and key == success_key(suite) else None


def suites_of(runs: Iterable[Run]) -> tuple[str, ...]:
    """Return the suites that at least one finished run has a success rate in: seen, unseen, then the others by name."""
    found = {
        suite for run in runs if run.is_done for key in run.numbers if (suite := suite_of_success(key)) is not None
    }
    return (*(name for name in FIRST_SUITES if name in found), *sorted(found.difference(FIRST_SUITES)))


def comparable_seeds(treatment: Mapping[int, Run], baseline: Mapping[int, Run], key: str) -> list[int]:
    """Return the seeds whose two runs may be held against each other in ``key``, in order.

    Figures of a suite need the same initial states on both sides, everything else only the seed.
    """
    suite = suite_of(key)
    common = sorted(treatment.keys() & baseline.keys())
    if suite is None:
        return common
    states = states_key(suite)
    return [seed for seed in common if treatment[seed].summary.get(states) == baseline[seed].summary.get(states)]
