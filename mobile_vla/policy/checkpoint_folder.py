"""Names of checkpoint folders, and the search for a whole one; all code that reads a checkpoint finds it here.

A run folder holds ``checkpoints/step-00000250`` (the newest ones) and ``checkpoints/best-00000250`` (from the
evaluation with the lowest ``val/rmse``, or ``val/nrmse`` where that decides). Each of them contains all that training
needs to continue from it, and is never changed after it was written. A checkpoint is *whole* if no file is missing and
every digest is correct.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mobile_vla.errors import UserError
from mobile_vla.policy.description import DESCRIPTION_FILE
from mobile_vla.policy.digests import DIGESTS_FILE, check_sealed
from mobile_vla.policy.weights import ADAPTER_FOLDER, BASE_FOLDER, WEIGHTS_FILE
from mobile_vla.untrusted.files import inside, read_json

CHECKPOINTS_FOLDER = "checkpoints"
OPTIMIZER_FILE = "optimizer.safetensors"
ARRAYS_FILE = "arrays.safetensors"
TRAINING_FILE = "training.json"

_POLICY_FILES = (DESCRIPTION_FILE, WEIGHTS_FILE)
_POLICY_FOLDERS = (ADAPTER_FOLDER, BASE_FOLDER)
_ALL_FILES = (*_POLICY_FILES, OPTIMIZER_FILE, ARRAYS_FILE, TRAINING_FILE)

Kind = Literal["step", "best"]
CHOICES = ("last", "best")

_NAME = re.compile(rf"({'|'.join(get_args(Kind))})-([0-9]{{8,18}})")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CheckpointEntry:
    """A folder in ``checkpoints/`` with the name of a checkpoint; it may be damaged."""

    path: Path
    kind: Kind
    step: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """A whole checkpoint of a run; ``damaged`` names the preferred ones that were skipped, and what is wrong."""

    path: Path
    step: int
    damaged: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NoneWhole:
    """The result of a search without a whole checkpoint: what is wrong with each; empty if there are none."""

    damaged: tuple[str, ...]


def checkpoint_name(kind: Kind, step: int) -> str:
    """Return the name of a checkpoint's folder; names of one kind sort by step."""
    return f"{kind}-{step:08d}"


def entries_of(checkpoints: Path) -> list[CheckpointEntry]:
    """Return the checkpoints in the folder ``checkpoints``, newest first; at the same step ``best`` comes second.

    Only names are read. The list is empty if the folder does not exist. Raises ``UserError`` if it cannot be read.
    """
    try:
        names = [path.name for path in checkpoints.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{checkpoints}: cannot be read ({error.strerror})") from error
    entries = []
    for match in filter(None, map(_NAME.fullmatch, names)):
        kind: Kind = "step" if match[1] == "step" else "best"
        if match[0] == checkpoint_name(kind, int(match[2])):  # not step-000000250: one name per step
            entries.append(CheckpointEntry(path=checkpoints / match[0], kind=kind, step=int(match[2])))
    return sorted(entries, key=lambda entry: (-entry.step, entry.kind == "best"))


def search(run: Path, checkpoint: str = "last") -> Found | NoneWhole:
    """Return the newest whole checkpoint of the folder ``run``; a warning names each damaged one that is newer.

    ``last`` is the one with the highest step; ``best`` ones count too, as they are just as complete. ``best`` is the
    newest ``best`` one; if it is damaged, the ``step`` one of the same step, which has the same weights; then an
    earlier ``best``.
    """
    inside(run, CHECKPOINTS_FOLDER)
    candidates = entries_of(run / CHECKPOINTS_FOLDER)
    if checkpoint == "best":
        steps = {entry.step for entry in candidates if entry.kind == "best"}
        candidates = [entry for entry in candidates if entry.step in steps]
        candidates.sort(key=lambda entry: (-entry.step, entry.kind == "step"))
    damaged = []
    for entry in candidates:
        try:
            _check_entry(run, entry)
        except UserError as error:
            damaged.append(f"{entry.path} is damaged: {error}")
        else:
            damaged = [f"{text}; {entry.path.name} is used in its place" for text in damaged]
            for text in damaged:
                _log.warning("%s", text)
            return Found(path=entry.path, step=entry.step, damaged=tuple(damaged))
    return NoneWhole(damaged=tuple(damaged))


def find_in_run(run: Path, checkpoint: str = "last", *, asked_by: str = "") -> Found:
    """Return what ``search`` finds; if none is whole, ``UserError`` names each checkpoint and its damage.

    ``asked_by`` is put in front of the folder in the message.
    """
    found = search(run, checkpoint)
    if isinstance(found, NoneWhole):
        raise UserError(f"{asked_by}{run}: {_nothing_found(run, checkpoint, found.damaged)}")
    return found


def find_checkpoint(folder: Path, checkpoint: str = "last") -> Path:
    """Return a whole checkpoint: ``folder`` itself if it is a checkpoint or an exported policy, else one of its run.

    Raises ``UserError`` as ``find_in_run`` does, and if ``folder`` itself is a damaged checkpoint.
    """
    if checkpoint not in CHOICES:
        raise UserError(f"checkpoint={checkpoint!r}: expected {' or '.join(CHOICES)}")
    # Either file marks a checkpoint: one that lost its digests is reported as damaged, not searched as a run.
    if not any(os.path.lexists(folder / name) for name in (DIGESTS_FILE, DESCRIPTION_FILE)):
        return find_in_run(folder, checkpoint).path
    try:
        check_sealed(folder, needed=_POLICY_FILES, closed=_POLICY_FOLDERS)
    except UserError as error:
        raise UserError(f"{folder}: is damaged: {error}. Give another one, or a copy of it that is whole.") from error
    return folder


def _nothing_found(run: Path, checkpoint: str, damaged: Sequence[str]) -> str:
    if damaged:
        others = "" if checkpoint == "last" else " (one with other weights may be whole: choose last)"
        return f"holds no {checkpoint} checkpoint that is whole{others}: {'; '.join(damaged)}"
    expected = run / CHECKPOINTS_FOLDER / f"{'best' if checkpoint == 'best' else 'step'}-..."
    return (
        f"holds no checkpoint (expected {expected}). Give the folder of a run that was stopped or is done: it was "
        "printed when the run ended, and its summary.json names its checkpoints."
    )


def _check_entry(run: Path, entry: CheckpointEntry) -> None:
    """Raise ``UserError`` if ``entry`` is not a whole checkpoint of the step in its name."""
    folder = inside(run, entry.path.relative_to(run))
    if not folder.is_dir():
        raise UserError("it is not a folder")
    check_sealed(folder, needed=_ALL_FILES, closed=_POLICY_FOLDERS)
    # A folder that was renamed by hand has correct digests, but training would continue at another step.
    training = read_json(folder / TRAINING_FILE)
    step = training.get("step") if isinstance(training, dict) else None
    if step != entry.step:
        raise UserError(f"{TRAINING_FILE} is that of step {step}; expected {entry.step}")
