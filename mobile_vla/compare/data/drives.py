"""Pair the closed-loop drives of two samplers: same seed, same suite, same initial state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobile_vla.compare.data.closed_loop import comparable_seeds, states_key, success_key, suites_of
from mobile_vla.compare.data.runs import RunRecord
from mobile_vla.compare.statistics.estimates import sign_flip_p_value
from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import inside, lines_of, parse_json

RESULTS = "episode_results.jsonl"

RATE_TOLERANCE = 1e-6
"""The largest allowed difference between the success rates of ``summary.json`` and of the drives.

A larger difference means that the two files were written by different rollouts.
"""

_REMEDY = "train the run again or leave it out."

Outcomes = Mapping[str, Mapping[int, bool]]
"""The outcomes of one run: by suite and index of the initial state, whether the drive reached its goal."""


@dataclass(frozen=True, kw_only=True)
class PairedDrives:
    """The pairs of drives of a treatment and the baseline in one suite, with the same seed and the same initial state.

    ``only_treatment`` and ``only_baseline`` count the pairs in which only one of the two succeeded. ``p_value`` is None
    without pairs, else that of ``sign_flip_p_value`` over the ``num_states`` initial states. The drives of all seeds
    from one state count as one observation, because a difficult state is difficult for every seed. The p value tests
    whether *these trained policies* differ on new states of the suite. The t interval over seeds is about newly trained
    policies, but on the given states. Neither covers both at once, and neither says anything about another suite.
    """

    num_pairs: int
    num_states: int
    only_treatment: int
    only_baseline: int
    p_value: float | None


def load_outcomes(run: RunRecord) -> Outcomes:
    """Return the outcome of each drive of ``run``, by suite and initial state; empty for a run without a closed loop.

    Raises UserError, with the file and the line, if the log is missing or damaged, contains a drive twice, or does not
    give the success rate in the run's summary.
    """
    suites = suites_of([run])
    if not suites:
        return {}
    path = inside(run.folder, RESULTS)
    outcomes = _read_outcomes(path)
    for suite in suites:
        drives, expected = outcomes.get(suite, {}), run.numbers[success_key(suite)]
        rate = sum(drives.values()) / len(drives) if drives else math.nan
        # Written with "not", so that a NaN rate (no drives) raises as well.
        if not abs(rate - expected) <= RATE_TOLERANCE:
            raise UserError(
                f"{path}: {len(drives)} drives of suite '{suite}' with success rate {rate:.6g}; expected "
                f"{expected:.6g} as in summary.json. The two are of different rollouts: {_REMEDY}"
            )
    return outcomes


def paired_drives(
    treatment: Mapping[int, RunRecord], baseline: Mapping[int, RunRecord], suite: str, outcomes: Mapping[Path, Outcomes]
) -> PairedDrives:
    """Return the paired drives of two treatments' runs (by seed) in ``suite``; ``outcomes`` are by run folder.

    Seeds whose runs have different initial states are left out, and so are drives that only one of the two runs has.
    """
    sums: dict[tuple[str, int], int] = {}
    differences: list[int] = []
    for seed in comparable_seeds(treatment, baseline, success_key(suite)):
        one, other = (outcomes[side[seed].folder].get(suite, {}) for side in (treatment, baseline))
        states = str(treatment[seed].summary.get(states_key(suite)))
        for index in one.keys() & other.keys():
            difference = int(one[index]) - int(other[index])
            differences.append(difference)
            sums[states, index] = sums.get((states, index), 0) + difference
    return PairedDrives(
        num_pairs=len(differences),
        num_states=len(sums),
        only_treatment=differences.count(1),
        only_baseline=differences.count(-1),
        p_value=sign_flip_p_value(sums.values()) if sums else None,
    )


def _read_outcomes(path: Path) -> dict[str, dict[int, bool]]:
    if not path.exists():
        raise UserError(f"{path}: missing; expected one line for each drive of the closed loop: {_REMEDY}")
    outcomes: dict[str, dict[int, bool]] = {}
    for where, line in lines_of(path):
        suite, index, success = _parse(line, where=where)
        drives = outcomes.setdefault(suite, {})
        if index in drives:
            raise UserError(f"{where} is a second drive of suite '{suite}', index {index}; expected one: {_REMEDY}")
        drives[index] = success
    return outcomes


def _parse(line: bytes, *, where: str) -> tuple[str, int, bool]:
    try:
        drive = parse_json(line, place=where)
    except UserError as error:
        raise UserError(f"{error}; {_REMEDY}") from error
    if not isinstance(drive, dict):
        raise UserError(f"{where} holds a {type(drive).__name__}, not an object; {_REMEDY}")
    suite, index, success = (drive.get(key) for key in ("suite", "index", "success"))
    # type() instead of isinstance(), because True is an instance of int.
    if type(suite) is not str or type(index) is not int or type(success) is not bool:
        raise UserError(
            f"{where} has suite {suite!r}, index {index!r}, success {success!r}; expected text, a whole number and "
            f"true or false; {_REMEDY}"
        )
    return suite, index, success
