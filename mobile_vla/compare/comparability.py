"""Refuse to rank runs that were not given the same problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from mobile_vla.compare.closed_loop import states_key, success_key, suites_of
from mobile_vla.compare.runs import DEFAULT_BASELINE, Run
from mobile_vla.errors import UserError
from mobile_vla.metrics import ERROR, is_reference
from mobile_vla.number_format import shortened

MUST_AGREE = {
    "data_hash": "the episodes",
    "split_hash": "the split into train and val",
    "steps": "the budget",
    "batch_size": "the budget",
    "commit": "the code",
}
"""Keys of ``summary.json`` that ranked runs share, and what each stands for."""

_SCHEDULE = {"schedule_changes": "the learning rate's schedule: steps that calls of resume= were given"}
"""Stands in few summaries, so it is nothing that a comparison says all runs share."""

REFERENCE_TOLERANCE = 1e-6
"""Relative. A reference predictor depends on data, split and windows alone: runs that disagree on it were not measured
on the same targets (another window_size, padding or action set)."""

MAX_NAMED_FOLDERS = 6

_NOT_RECORDED = "(not recorded)"


class ComparabilityError(UserError):
    """Runs cannot be ranked together; the message says which key has which values in which runs."""


def require_comparable(runs: Sequence[Run]) -> None:
    """Raise ComparabilityError unless all finished ``runs`` share data, split, budget, code, files and val targets.

    Runs that did not finish are not ranked, so they may lack these keys or differ in them.
    """
    ranked = [run for run in runs if run.is_done]
    problems = [
        _describe(key, meaning, [(run, run.summary.get(key, _NOT_RECORDED)) for run in ranked])
        for key, meaning in (MUST_AGREE | _SCHEDULE).items()
        if len({str(run.summary.get(key)) for run in ranked}) > 1
    ]
    for name in sorted({name for run in ranked for name in run.files}):
        contents = [(run, run.files[name]) for run in ranked if name in run.files]
        if len({content for _, content in contents}) > 1:
            problems.append(_describe(name, "the content of a file", contents))
    references = sorted({key for run in ranked for key in run.numbers if is_reference(key)})
    problems += [
        _describe(key, "the val targets", [(run, run.summary.get(key, _NOT_RECORDED)) for run in ranked])
        for key in references
        if _has_spread(key, ranked)
    ]
    if problems:
        raise ComparabilityError(
            "These runs cannot be ranked together:\n"
            + "\n".join(problems)
            + "\nCompare only runs that agree (one folder each), or train the odd ones again with the same data, "
            "split, steps, batch size and commit."
        )


def agreed_name(runs: Sequence[Run], key: Literal["primary", "baseline"]) -> str:
    """Return the primary metric or the baseline that the finished runs' study named before it ran, or the default.

    Raises ComparabilityError where they were begun with different ones: which of them ranks would be a choice made
    after the results are known.
    """
    default = {"primary": ERROR, "baseline": DEFAULT_BASELINE}[key]
    answers = [(run, getattr(run, key) or default) for run in _asked(runs)]
    _require_one_answer(key, answers, default, remedy=" or give one with --baseline" if key == "baseline" else "")
    return answers[0][1] if answers else default


def agreed_controls(runs: Sequence[Run]) -> Mapping[str, str]:
    """Return the controls that the finished runs' study named before it ran, label to label.

    Raises ComparabilityError where they were begun with different ones.
    """
    asked = _asked(runs)
    _require_one_answer("controls", [(run, str(dict(sorted(run.controls.items())))) for run in asked], "{}")
    return asked[0].controls if asked else {}


def _asked(runs: Sequence[Run]) -> Sequence[Run]:
    """Return the runs whose question counts: where nothing finished, what was planned still says what it is."""
    return [run for run in runs if run.is_done] or runs


def _require_one_answer(key: str, answers: Sequence[tuple[Run, str]], default: str, *, remedy: str = "") -> None:
    lines = _by_answer(answers)
    if len(lines) > 1:
        raise ComparabilityError(
            f"These runs were begun with different answers to 'study.{key}' ({default} where none was named):\n"
            + "\n".join(lines)
            + f"\nCompare only runs that agree (one folder each){remedy}."
        )


def different_states(runs: Sequence[Run]) -> dict[str, str]:
    """Describe, by suite, which finished runs met which initial states, where they did not all meet the same ones.

    Such runs are still ranked: ``val/rmse`` and the like were measured on the same targets.
    """
    found = {}
    for suite in suites_of(runs):
        drove = [run for run in runs if run.is_done and success_key(suite) in run.numbers]
        if len({str(run.summary.get(states_key(suite))) for run in drove}) > 1:
            states = [(run, run.summary.get(states_key(suite), _NOT_RECORDED)) for run in drove]
            found[suite] = _describe(states_key(suite), "the initial states", states)
    return found


def _has_spread(key: str, runs: Sequence[Run]) -> bool:
    values = [run.numbers[key] for run in runs if key in run.numbers]
    return max(values) - min(values) > REFERENCE_TOLERANCE * max(map(abs, values))


def _describe(key: str, meaning: str, answers: Sequence[tuple[Run, object]]) -> str:
    return "\n".join([f"  {key} ({meaning}) differs:", *(f"  {line}" for line in _by_answer(answers))])


def _by_answer(answers: Sequence[tuple[Run, object]]) -> list[str]:
    folders: dict[object, list[str]] = {}
    for run, answer in answers:
        folders.setdefault(answer, []).append(run.folder.name)
    return [f"  {answer} in {shortened(names, limit=MAX_NAMED_FOLDERS)}" for answer, names in folders.items()]
