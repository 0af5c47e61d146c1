"""Check that runs can be ranked together: same data, split, budget, code and validation targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from mobile_vla.compare.data.closed_loop import states_key, success_key, suites_of
from mobile_vla.compare.data.runs import DEFAULT_BASELINE, RunRecord
from mobile_vla.errors import UserError
from mobile_vla.metrics import AUTO, error_of, is_reference
from mobile_vla.spec import Signal
from mobile_vla.text import shortened

MUST_AGREE = {
    "data_hash": "the episodes",
    "split_hash": "the split into train and val",
    "steps": "the budget",
    "batch_size": "the budget",
    "commit": "the code",
}
"""Keys of ``summary.json`` whose values must be equal in all ranked runs, and the meaning of each."""

_SCHEDULE = {"schedule_changes": "the learning rate's schedule: steps that calls of resume= were given"}
"""Must be equal too. Few summaries have this key, so a comparison does not list it among the facts that runs share."""

REFERENCE_TOLERANCE = 1e-6
"""Relative. The error of a reference predictor depends only on data, split and windows. Runs in which it differs were
not evaluated on the same targets (another window_size, padding or action set)."""

MAX_NAMED_FOLDERS = 6
MAX_NAMED_SIGNALS = 40

_NOT_RECORDED = "(not recorded)"


class ComparabilityError(UserError):
    """An error for runs that cannot be ranked together; the message lists the values of each differing key by run."""


def require_comparable(runs: Sequence[RunRecord]) -> None:
    """Raise ComparabilityError unless all finished ``runs`` share data, split, budget, code, files and val targets.

    Unfinished runs are not ranked, so they may lack these keys or have other values.
    """
    ranked = [run for run in runs if run.is_done]
    problems = [
        _describe(key, meaning, [(run, run.summary.get(key, _NOT_RECORDED)) for run in ranked])
        for key, meaning in (MUST_AGREE | _SCHEDULE).items()
        if len({str(run.summary.get(key)) for run in ranked}) > 1
    ]
    # A file is compared only between the runs that used it: a score file belongs to one sampler and not to the others.
    for name in sorted({name for run in ranked for name in run.files}):
        contents = [(run, run.files[name]) for run in ranked if name in run.files]
        if len({content for _, content in contents}) > 1:
            problems.append(_describe(name, "the content of a file", contents))
    # Not the state and the cameras: which of them a policy gets can be the treatment.
    actions = [(run, _listed(run.spec.actions)) for run in ranked if run.spec is not None]
    if len({signals for _, signals in actions}) > 1:
        problems.append(_describe("the actions", "their names, units and kinds", actions))
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


def agreed_name(runs: Sequence[RunRecord], key: Literal["primary", "baseline"]) -> str:
    """Return the primary metric or the baseline that the study of the finished runs fixed in advance, or the default.

    Raises ComparabilityError if the runs were started with different ones, because choosing one of them now would be a
    choice made after the results are known.
    """
    asked = _asked(runs)
    default = {"primary": error_that_decides(asked), "baseline": DEFAULT_BASELINE}[key]
    found = [(run, getattr(run, key)) for run in asked]
    # ``auto`` is a rule and no metric: a run that ended before it knew its data follows the others.
    answers = [(run, default if answer in (None, AUTO) else answer) for run, answer in found]
    _require_one_answer(key, answers, default, remedy=" or give one with --baseline" if key == "baseline" else "")
    return answers[0][1] if answers else default


def error_that_decides(runs: Sequence[RunRecord], *, primary: str = AUTO) -> str:
    """Return the error on val that decides for ``runs`` of one data set (see ``metrics.error_of``)."""
    return error_of(next((run.spec for run in runs if run.spec is not None), None), primary=primary)


def agreed_controls(runs: Sequence[RunRecord]) -> Mapping[str, str]:
    """Return the controls that the study of the finished runs fixed in advance, as a mapping from label to label.

    Raises ComparabilityError if the runs were started with different ones.
    """
    asked = _asked(runs)
    _require_one_answer("controls", [(run, str(dict(sorted(run.controls.items())))) for run in asked], "{}")
    return asked[0].controls if asked else {}


def _asked(runs: Sequence[RunRecord]) -> Sequence[RunRecord]:
    """Return the runs that define the study's question: the finished ones, or all (also planned) if none finished."""
    return [run for run in runs if run.is_done] or runs


def _require_one_answer(key: str, answers: Sequence[tuple[RunRecord, str]], default: str, *, remedy: str = "") -> None:
    lines = _by_answer(answers)
    if len(lines) > 1:
        raise ComparabilityError(
            f"These runs have different values of 'study.{key}' ({default} where none was given):\n"
            + "\n".join(lines)
            + f"\nCompare only runs that agree (one folder each){remedy}."
        )


def different_states(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return, for each suite with differing initial states, a text that lists which finished runs had which states.

    Such runs are still ranked, because ``val/rmse`` and similar metrics were measured on the same targets.
    """
    found = {}
    for suite in suites_of(runs):
        drove = [run for run in runs if run.is_done and success_key(suite) in run.numbers]
        if len({str(run.summary.get(states_key(suite))) for run in drove}) > 1:
            states = [(run, run.summary.get(states_key(suite), _NOT_RECORDED)) for run in drove]
            found[suite] = _describe(states_key(suite), "the initial states", states)
    return found


def _listed(signals: Sequence[Signal]) -> str:
    texts = [f"{s.name} [{s.unit or 'unit unknown'}, {s.kind}]" for s in signals]
    return shortened(texts, limit=MAX_NAMED_SIGNALS)


def _has_spread(key: str, runs: Sequence[RunRecord]) -> bool:
    values = [run.numbers[key] for run in runs if key in run.numbers]
    return max(values) - min(values) > REFERENCE_TOLERANCE * max(map(abs, values))


def _describe(key: str, meaning: str, answers: Sequence[tuple[RunRecord, object]]) -> str:
    return "\n".join([f"  {key} ({meaning}) differs:", *(f"  {line}" for line in _by_answer(answers))])


def _by_answer(answers: Sequence[tuple[RunRecord, object]]) -> list[str]:
    folders: dict[object, list[str]] = {}
    for run, answer in answers:
        folders.setdefault(answer, []).append(run.folder.name)
    return [f"  {answer} in {shortened(names, limit=MAX_NAMED_FOLDERS)}" for answer, names in folders.items()]
