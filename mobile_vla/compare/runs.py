"""Load run folders and name them by what was chosen, never by where they lie."""

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
from mobile_vla.tracking.ownership import owner_of
from mobile_vla.untrusted.files import inside, read_json, walk
from mobile_vla.untrusted.yaml_file import read_yaml

STATUSES = ("done", "failed", "stopped", "running")

MISSING = "missing"
"""The status of a planned job that never began: it has no folder, so no run records it."""

DEFAULT_BASELINE = "shuffled"
"""The label that the others are held against where the runs do not name one."""

UNKNOWN = "unknown"
"""The label of a run that left no record of its sampler."""

_SAMPLERS_OWN = re.compile(r"sampler(\.|@sampler\.)")
"""Keys of a sampler's options: its own, and the choice of another that it is built on."""

LEFT_UNSAID = ("none", "null", "None")
"""Options that mean *off*: a label says ``augmentation=mirror`` and stays silent about ``augmentation=none``."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run as its folder records it.

    ``status`` is one of STATUSES or MISSING; a run without a readable summary is ``failed`` and ``error`` says so in
    one line. ``settings`` maps config groups to the chosen option and overridden keys to their value, as text.
    ``summary`` is ``summary.json``, empty if there is none. ``primary`` and ``baseline`` are the metric and the label
    that its study named before it ran, None where it named none; ``controls`` its labels' controls. ``files`` holds the
    digests of the files outside the package that decided what it trained, such as the score file of its sampler.
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

    @property
    def is_done(self) -> bool:
        """Whether the run spent its whole budget, so that it may be ranked."""
        return self.status == "done"

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The finite numbers of the summary; text, booleans, NaN and infinities are missing."""
        return {key: float(value) for key, value in self.summary.items() if is_finite_number(value)}


def load_runs(folder: Path) -> list[Run]:
    """Load every run folder at or below ``folder``, in the order of their paths.

    A run folder holds ``manifest.json`` with the choices of the run, or only the ``.hydra`` folder of a job that died
    before it wrote one. Raises UserError if there is none, or a folder cannot be read.
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


def runs_by_label(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Group runs by treatment: the sampler and every other recorded choice that differs between ``runs``.

    Labels read ``stratified``, ``stratified tau=4`` (the sampler's own options) or ``shuffled, augmentation=mirror``
    (anything else). Seed, budget and logging are no treatment. A key that was not overridden has its default, which
    counts as a value of its own and is left unsaid. Where all runs have one sampler and something else tells them
    apart, the sampler is left unsaid as well: ``model/head=flow``.
    """
    runs = list(runs)
    differing = treatment_keys(runs)
    others = [_other_choices(run, differing) for run in runs]
    samplers = [run.sampler + _own_options(run, differing) for run in runs]
    says_sampler = not all(others) or len(set(samplers)) > 1
    groups: dict[str, list[Run]] = {}
    for run, sampler, other in zip(runs, samplers, others, strict=True):
        label = ", ".join([sampler, *other] if says_sampler else other)
        groups.setdefault(label, []).append(run)
    return groups


def treatment_keys(runs: Iterable[Run]) -> list[str]:
    """Return the settings beside ``sampler`` in which ``runs`` differ as treatments: groups and overridden keys."""
    recorded = [run.settings for run in runs if run.settings]
    keys = sorted({key for settings in recorded for key in settings})
    return [
        key
        for key in keys
        if key not in ("sampler", "seed")
        # A budget that differs is refused, not labelled.
        and not (is_within(key, BUDGET) or trains_nothing(key))
        and len({settings.get(key) for settings in recorded}) > 1
    ]


def _load_run(folder: Path) -> Run | None:
    """Load one folder; None where ``manifest.json`` is a sound file about something else than a run."""
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
    return Run(
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
    )


def texts_in(record: Mapping[str, object], key: str) -> dict[str, str]:
    """Return the mapping of text to text that a manifest or a plan has at ``key``; empty where it has none."""
    found = record.get(key)
    return {str(name): str(text) for name, text in found.items()} if isinstance(found, dict) else {}


def text_or_none(value: object) -> str | None:
    """Return ``value`` where it is a text."""
    return value if isinstance(value, str) else None


def _why_unfinished(status: str, summary: Mapping[str, object], folder: Path) -> str | None:
    if status == "stopped":
        by = f" by {summary['stopped_by']}" if "stopped_by" in summary else ""
        return f"stopped at step {summary.get('steps')}{by}; python run.py resume=FOLDER goes on"
    if status == "running" and (owner := owner_of(folder)) is not None:
        return f"still running in {owner}"
    if status == "running":
        return f"no end recorded, and no process has it: killed; last recorded step {summary.get('steps')}"
    return None


def _read_json_object(path: Path) -> tuple[dict[str, object], str | None]:
    """Return the object in ``path`` and None, or an empty one and what is wrong with the file."""
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
    """Return the manifest and None, or as much as is known of the run and what is wrong."""
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
    """Return what ``choices`` and ``overrides`` of a manifest set: group or key to option or value."""
    choices, overrides = manifest.get("choices"), manifest.get("overrides")
    choices = choices if isinstance(choices, dict) else {}
    given = [str(override).lstrip("+").partition("=") for override in overrides] if isinstance(overrides, list) else []
    keys = {key for key, _, _ in given}
    # A group inside another (model/head, sampler@sampler.base) has the option that the outer one brings along, unless
    # it was given.
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


def _own_options(run: Run, differing: Iterable[str]) -> str:
    """Return the sampler's own options that differ, as ``" tau=4"``."""
    own = {key[len(own[0]) :]: run.settings.get(key) for key in differing if (own := _SAMPLERS_OWN.match(key))}
    return "".join(f" {key}={value}" for key, value in own.items() if value is not None)


def _other_choices(run: Run, differing: Iterable[str]) -> list[str]:
    """Return what else differs, as ``augmentation=mirror``."""
    found = []
    for key in differing:
        value = run.settings.get(key)
        is_off = value in LEFT_UNSAID and "." not in key  # of a group; model.normalization=none is one way among others
        if not _SAMPLERS_OWN.match(key) and value is not None and not is_off:
            found.append(f"{key}={value}")
    return found


def is_finite_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a number that a float can hold; a bool is none."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # JSON's integers have no end
        return False


def _first_line(text: object) -> str | None:
    lines = str(text or "").strip().splitlines()
    if not lines:
        return None
    return " ".join([lines[0], lines[1].strip()]) if lines[0].endswith(":") and len(lines) > 1 else lines[0]
