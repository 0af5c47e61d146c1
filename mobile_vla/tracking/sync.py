"""Upload to W&B what was recorded offline, and say of every run what became of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mobile_vla.errors import UserError
from mobile_vla.tracking.offline_runs import OfflineRun, UnreadableRecordingError, find_offline_runs
from mobile_vla.tracking.wandb_login import require_login

if TYPE_CHECKING:
    from rich.console import Console

_PARALLEL = 4
_ERROR = "wandb: ERROR "
_TORN = "the file ends with an incomplete record"
"""What ``wandb sync`` says of the log of a killed run; all before that record has arrived by then."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one recording, and why if it is not on the server."""

    run: OfflineRun
    status: Literal["uploaded", "already", "failed", "superseded"]
    reason: str = ""


def sync_folder(folder: Path, console: Console) -> int:
    """Upload every offline run at or below ``folder``, a line each, and return how many failed.

    What the server has is not sent again. Of a run that was trained again from step 0, the recordings before are left
    out. A run that has recorded no end is not sent, since it may still grow, unless a later recording goes on from it.
    Raises UserError without a key or where there is no offline run.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected the folder of a run or of a sweep.")
    runs = find_offline_runs(folder)
    if not runs:
        raise UserError(
            f"{folder}: found no offline run (offline-run-*) here or below; expected the folder of a run or of a sweep "
            "that recorded offline. Runs that were online are on W&B already."
        )
    if not all(run.is_uploaded for run in runs):
        require_login(purpose=f"upload the runs in {folder}")
    outcomes = []
    for outcome in _upload_all(runs):
        outcomes.append(outcome)
        line = f"{outcome.status:10}  {outcome.run.run_id}  {outcome.reason}".rstrip()
        style = {"failed": "red", "uploaded": "green"}.get(outcome.status, "dim")
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    counts = {status: sum(o.status == status for o in outcomes) for status in ("uploaded", "already", "failed")}
    console.print("{uploaded} uploaded, {already} there already, {failed} failed".format(**counts))
    return counts["failed"]


def _upload_all(runs: Iterable[OfflineRun]) -> Iterator[Outcome]:
    """Upload run by run; the recordings of one run go in their order, different runs side by side."""
    by_run = groupby(sorted(runs, key=lambda run: (run.run_id, run.folder.name)), key=lambda run: run.run_id)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        for outcomes in pool.map(_upload_parts, [list(parts) for _, parts in by_run]):
            yield from outcomes


def _upload_parts(parts: list[OfflineRun]) -> list[Outcome]:
    """Upload the recordings of one run, oldest first; one that fails holds back those that go on from it."""
    outcomes: list[Outcome] = []
    for position, part in enumerate(parts):
        try:
            outcome = _upload_part(
                part, parts[position + 1 :], is_held_back=bool(outcomes) and outcomes[-1].status == "failed"
            )
        except UnreadableRecordingError as error:
            outcome = Outcome(run=part, status="failed", reason=str(error))
        outcomes.append(outcome)
    return outcomes


def _upload_part(part: OfflineRun, later: Sequence[OfflineRun], *, is_held_back: bool) -> Outcome:
    if part.is_uploaded:
        return Outcome(run=part, status="already")
    part.check_self_contained()
    if any(not other.goes_on for other in later):
        return Outcome(run=part, status="superseded", reason="the run was trained again from step 0")
    if is_held_back:
        return Outcome(run=part, status="failed", reason="goes on from the recording above")
    if not part.has_ended and not later:
        why = "recorded no end: still training, or killed; sync again when it has ended, or resume it"
        return Outcome(run=part, status="failed", reason=f"{why} ({part.folder})")
    return _upload(part)


def _upload(run: OfflineRun) -> Outcome:
    """Upload one recording with wandb's own command, whose exit code is 0 whatever happens: its mark is what counts."""
    command = [sys.executable, "-m", "wandb", "sync", str(run.folder)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    errors = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
    if any(_TORN in error for error in errors) and len(errors) == 1:
        run.uploaded_mark.touch()  # a later recording goes on from here, so nothing more will come
    if run.is_uploaded:
        return Outcome(run=run, status="uploaded", reason=_address(lines))
    last = lines[-1] if lines else f"wandb sync ended with {done.returncode}"
    return Outcome(run=run, status="failed", reason=f"{'; '.join(errors) or last} ({run.folder})")


def _address(lines: Iterable[str]) -> str:
    return next((line.rpartition(" at ")[2] for line in lines if "View run" in line), "")
