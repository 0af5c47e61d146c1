"""Load run folders and label the runs by their recorded settings, never by their folder's path."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeGuard

from mobile_vla.config_keys import BUDGET, is_within, trains_nothing
from mobile_vla.errors import UserError
from mobile_vla.installation import TRAIN
from mobile_vla.spec import Spec, parse_spec
from mobile_vla.tracking.ownership import owner_of
from mobile_vla.untrusted.files import inside, read_json, walk
from mobile_vla.untrusted.yaml_file import read_yaml

STATUSES = ("done", "failed", "stopped", "running")

MISSING = "missing"
"""The status of a planned job that never started: it has no folder, so no run records this status."""

DEFAULT_BASELINE = "shuffled"
"""The baseline's label for runs that do not name one."""

UNKNOWN = "unknown"
"""The sampler of a run that did not record one."""

_SAMPLERS_OWN = re.compile(r"sampler(\.|@sampler\.)")
"""Matches the keys of a sampler's own options, and the choice of a second sampler that it is built on."""

LEFT_UNSAID = ("none", "null", "None")
"""Options that mean *off*: a label includes ``augmentation=mirror`` and leaves out ``augmentation=none``."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The record of one training run, as read from its folder.

    ``status`` is one of STATUSES or MISSING; a run without a readable summary is ``failed``. ``error`` gives the reason
    in one line. ``settings`` maps config groups to the chosen option and overridden keys to their value, as text.
    ``summary`` is ``summary.json``, empty if there is none. ``primary`` and ``baseline`` are the metric and the label
    that its study fixed in advance, None if there was none; ``primary`` is AUTO until a run knows its data.
    ``controls`` maps labels to their controls. ``files`` contains the digests of the files outside the package that
    influenced training, such as the sampler's score file. ``spec`` describes what its policy gets and predicts; None if
    it was not recorded.
    """

    folder: Path
    sampler: str
    seed: int | None
    status: str
    error: str | None
    settings: Mapping[str, str]
    summary: Mapping[str, object]
    primary: str | None = None
    baseline: str | None = None
    controls: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    spec: Spec | None = None

    @property
    def is_done(self) -> bool:
        """Whether the run completed its whole budget and so can be ranked."""
        return self.status == "done"

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The finite numbers of the summary; texts, booleans, NaN and infinities are left out."""
        return {key: float(value) for key, value in self.summary.items() if is_finite_number(value)}


def load_runs(folder: Path) -> list[RunRecord]:
    """Return the runs in ``folder`` or below, ordered by their paths.

    A run folder contains ``manifest.json`` with the choices of the run, or only the ``.hydra`` folder if the job died
    before it wrote a manifest. Raises UserError if there is no run folder or a folder cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected the folder of a run or of a multirun.")
    folders = set()
    for path, names in walk(folder):
        has_record = ".hydra" in names and os.path.lexists(path / ".hydra" / "hydra.yaml")
        folders |= {path} if "manifest.json" in names or has_record else set()
    runs = [run for path in sorted(folders) if (run := _load_run(path)) is not None]
    if not runs:
        raise UserError(
            f"{folder}: found no run folder (one with a manifest.json) here or below; expected the folder of a "
            "run or of a multirun. Pass the folder that the training printed at its end."
        )
    return runs


def runs_by_label(runs: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the runs grouped by treatment: the sampler and every other recorded choice that differs between ``runs``.

    Example labels are ``stratified``, ``stratified tau=4`` (an option of the sampler itself) and ``shuffled,
    augmentation=mirror`` (any other choice). Seed, budget and logging are not part of a treatment. A key that was not
    overridden has its default value; this counts as a separate value but is not part of the label. If all runs have the
    same sampler and differ in other choices, the label leaves out the sampler: ``model/head=flow``.
    """
    runs = list(runs)
    differing = treatment_keys(runs)
    others = [_other_choices(run, differing) for run in runs]
    samplers = [run.sampler + _own_options(run, differing) for run in runs]
    says_sampler = not all(others) or len(set(samplers)) > 1
    groups: dict[str, list[RunRecord]] = {}
    for run, sampler, other in zip(runs, samplers, others, strict=True):
        label = ", ".join([sampler, *other] if says_sampler else other)
        groups.setdefault(label, []).append(run)
    return groups


def treatment_keys(runs: Iterable[RunRecord]) -> list[str]:
    """Return the settings other than ``sampler`` that distinguish the treatments of ``runs``: groups and keys."""
    recorded = [run.settings for run in runs if run.settings]
    keys = sorted({key for settings in recorded for key in settings})
    return [
        key
        for key in keys
        if key not in ("sampler", "seed")
        # Runs with different budgets are not different treatments: require_comparable raises an error for them.
        and not (is_within(key, BUDGET) or trains_nothing(key))
        and len({settings.get(key) for settings in recorded}) > 1
    ]


def _load_run(folder: Path) -> RunRecord | None:
    """Return the run in ``folder``; None if ``manifest.json`` is a valid file but not a run's manifest."""
    manifest, manifest_problem = _read_manifest(folder)
    if manifest_problem is None and "choices" not in manifest:
        return None
    summary, summary_problem = _read_json_object(folder / "summary.json")
    settings = settings_of(manifest)
    seed, status = manifest.get("seed", summary.get("seed")), summary.get("status")
    problem = manifest_problem or summary_problem
    if problem is None and status not in STATUSES:
        problem = f"summary.json has status {status!r}, not one of {', '.join(STATUSES)}"
    if problem is None and not isinstance(seed, int):
        problem = f"manifest.json has seed {seed!r}, not an integer"
    return RunRecord(
        folder=folder,
        sampler=settings.get("sampler") or str(summary.get("sampler", UNKNOWN)),
        seed=seed if isinstance(seed, int) else None,
        status="failed" if problem else str(status),
        error=_first_line(problem or summary.get("error") or _why_unfinished(str(status), summary, folder)),
        settings=settings,
        summary=summary,
        primary=text_or_none(manifest.get("primary")),
        baseline=text_or_none(manifest.get("baseline")),
        controls=texts_in(manifest, "controls"),
        files=texts_in(manifest, "files"),
        spec=_read_spec(folder),
    )


def _read_spec(folder: Path) -> Spec | None:
    """Return the spec of a run's data; None if the run recorded none that can be read."""
    content, problem = _read_json_object(folder / "spec.json")
    try:
        return None if problem else parse_spec(content)
    except ValueError:
        return None


def texts_in(record: Mapping[str, object], key: str) -> dict[str, str]:
    """Return the mapping at ``key`` of a manifest or a plan, with all keys and values as text; empty if it has none."""
    found = record.get(key)
    return {str(name): str(text) for name, text in found.items()} if isinstance(found, dict) else {}


def text_or_none(value: object) -> str | None:
    """Return ``value`` if it is a text, else None."""
    return value if isinstance(value, str) else None


def _why_unfinished(status: str, summary: Mapping[str, object], folder: Path) -> str | None:
    if status == "stopped":
        by = f" by {summary['stopped_by']}" if "stopped_by" in summary else ""
        return f"stopped at step {summary.get('steps')}{by}; {TRAIN} resume=FOLDER goes on"
    if status == "running" and (owner := owner_of(folder)) is not None:
        return f"still running in {owner}"
    if status == "running":
        return f"no end recorded, and no process has it: killed; last recorded step {summary.get('steps')}"
    return None


def _read_json_object(path: Path) -> tuple[dict[str, object], str | None]:
    """Return the JSON object in ``path`` and None, or an empty object and a text that says what is wrong."""
    try:
        content = read_json(inside(path.parent, path.name))
    except FileNotFoundError:
        return {}, f"{path.name} is missing: the run was killed, or it has only just begun"
    except (OSError, ValueError) as error:
        return {}, f"{path.name} cannot be read: {error}"
    if not isinstance(content, dict):
        return {}, f"{path.name} holds a {type(content).__name__}, not an object"
    return content, None


def _read_manifest(folder: Path) -> tuple[dict[str, object], str | None]:
    """Return the manifest and None, or the facts known from ``.hydra`` and a text that says what is wrong."""
    if (folder / "manifest.json").exists():
        return _read_json_object(folder / "manifest.json")
    problem = "manifest.json is missing: the run ended before it was set up, or it has only just begun"
    try:
        hydra = read_yaml(inside(folder, ".hydra/hydra.yaml"))["hydra"]
        overrides = [str(text) for text in hydra["overrides"]["task"] or ()]
        choices = {str(group): str(option) for group, option in hydra["runtime"]["choices"].items()}
    except (UserError, KeyError, TypeError, AttributeError) as error:
        return {}, f"{problem}; .hydra/hydra.yaml cannot be read: {error}"
    seeds = [text.removeprefix("seed=") for text in overrides if text.startswith("seed=")]
    recorded = {
        "choices": choices,
        "overrides": overrides,
        "seed": int(seeds[-1]) if seeds and seeds[-1].isdecimal() else None,
    }
    return recorded, problem


def settings_of(manifest: Mapping[str, object]) -> dict[str, str]:
    """Return the settings in a manifest's ``choices`` and ``overrides``: group to option and key to value."""
    choices, overrides = manifest.get("choices"), manifest.get("overrides")
    choices = choices if isinstance(choices, dict) else {}
    given = [str(override).lstrip("+").partition("=") for override in overrides] if isinstance(overrides, list) else []
    keys = {key for key, _, _ in given}
    # The option of a nested group (model/head, sampler@sampler.base) usually follows from that of its outer group. It
    # is a setting of its own only if it was overridden.
    settings = {
        key: str(option)
        for key, option in choices.items()
        if not key.startswith("hydra/") and (key in keys or re.split("[/@]", key)[0] not in choices.keys() - {key})
    }
    for key, _, value in given:
        if key.startswith("~"):
            key, value = key[1:], "removed"
        if key not in choices:
            settings[key] = value
    return settings


def _own_options(run: RunRecord, differing: Iterable[str]) -> str:
    """Return the sampler's own options that differ between runs, such as ``" tau=4"``."""
    own = {key[len(own[0]) :]: run.settings.get(key) for key in differing if (own := _SAMPLERS_OWN.match(key))}
    return "".join(f" {key}={value}" for key, value in own.items() if value is not None)


def _other_choices(run: RunRecord, differing: Iterable[str]) -> list[str]:
    """Return the other settings that differ between runs, such as ``augmentation=mirror``."""
    found = []
    for key in differing:
        value = run.settings.get(key)
        # Only for a config group: for a key such as model.normalization, none is an ordinary value.
        is_off = value in LEFT_UNSAID and "." not in key
        if not _SAMPLERS_OWN.match(key) and value is not None and not is_off:
            found.append(f"{key}={value}")
    return found


def is_finite_number(value: object) -> TypeGuard[float]:
    """Return whether ``value`` is a finite number that fits in a float; a bool is not a number here."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer in JSON can be larger than any float
        return False


def _first_line(text: object) -> str | None:
    lines = str(text or "").strip().splitlines()
    if not lines:
        return None
    return " ".join([lines[0], lines[1].strip()]) if lines[0].endswith(":") and len(lines) > 1 else lines[0]
