"""Parse the closed-loop keys of ``summary.json``, and find runs that drove from the same initial states."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mobile_vla.compare.data.runs import RunRecord

FIRST_SUITES = ("seen", "unseen")
"""The suites that come first in every list; the others follow by name."""

_KEY = re.compile(r"closed_loop/(?P<suite>[^/]+)/(?P<figure>.+)")


def success_key(suite: str) -> str:
    """Return the key of the success rate: the share of drives that reached the goal, 0 to 1."""
    return f"closed_loop/{suite}/success_rate"


def states_key(suite: str) -> str:
    """Return the key of a text that is equal for runs with equal initial states."""
    return f"closed_loop/{suite}/states"


def suite_of(key: str) -> str | None:
    """Return the suite that the metric ``key`` was measured in, None for a metric that is not of the closed loop."""
    match = _KEY.fullmatch(key)
    return match["suite"] if match else None


def suite_of_success(key: str) -> str | None:
    """Return the suite whose overall success rate is ``key``, None for any other metric (also for parts of a rate)."""
    suite = suite_of(key)
    return suite if suite is not None and key == success_key(suite) else None


def suites_of(runs: Iterable[RunRecord]) -> tuple[str, ...]:
    """Return the suites with a success rate in at least one finished run: seen, unseen, then the others by name."""
    found = {
        suite for run in runs if run.is_done for key in run.numbers if (suite := suite_of_success(key)) is not None
    }
    return (*(name for name in FIRST_SUITES if name in found), *sorted(found.difference(FIRST_SUITES)))


def comparable_seeds(treatment: Mapping[int, RunRecord], baseline: Mapping[int, RunRecord], key: str) -> list[int]:
    """Return the seeds, in order, for which the treatment and the baseline can be compared in the metric ``key``.

    Closed-loop metrics need the same initial states in both runs, all other metrics only the same seed.
    """
    suite = suite_of(key)
    common = sorted(treatment.keys() & baseline.keys())
    if suite is None:
        return common
    states = states_key(suite)
    return [seed for seed in common if treatment[seed].summary.get(states) == baseline[seed].summary.get(states)]
