"""Send the unconfirmed rows of the runs recorded on disk to W&B, and report the result for every recording."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mobile_vla.errors import UserError
from mobile_vla.tracking.wandb.call_thread import end_service
from mobile_vla.tracking.wandb.confirmation import NoAnswerError, Stored, address_of, ask, wait_until
from mobile_vla.tracking.wandb.login import require_login
from mobile_vla.tracking.wandb.recordings import WandbRecording, find_recordings, last_attempt
from mobile_vla.tracking.wandb.time_limit import TimeLimit
from mobile_vla.tracking.wandb.transaction_log import UnreadableRecordingError
from mobile_vla.tracking.wandb.upload import UploadError, upload

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_TIMEOUT_S = 300.0

_PARALLEL = 4
_COUNTING_S = 20.0
"""Time limit for W&B to count the rows that it has received; 2 to 4 s are reported for its own server."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result for one recording; ``reason`` says what was sent or is there, or why it is not on the server."""

    recording: WandbRecording
    status: Literal["uploaded", "already", "failed", "superseded"]
    reason: str


def sync_folder(folder: Path, console: Console, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> int:
    """Upload the unconfirmed rows of all recordings at or below ``folder``, print a line for each, return the failures.

    Recordings of online and of offline runs are treated in the same way. The server is asked which rows of a run it
    has, only the others are sent, and then it is asked again: no row is sent twice. If a run was trained again from
    step 0, its earlier recordings are left out. A recording without an end is not sent, because it may still grow,
    unless a later recording continues it. Each run may take ``timeout_s`` seconds. Raises UserError without a key, or
    if there is no recording.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected the folder of a run or of a sweep.")
    recordings = find_recordings(folder)
    if not recordings:
        raise UserError(
            f"{folder}: found no recording of W&B's (run-* or offline-run-*) here or below; expected the folder of a "
            "run or of a sweep with logger=wandb."
        )
    if not all(recording.is_confirmed for recording in recordings):
        require_login(purpose=f"upload the runs in {folder}")
    outcomes = []
    for outcome in _sync_all(recordings, timeout_s=timeout_s):
        outcomes.append(outcome)
        line = f"{outcome.status:10}  {outcome.recording.run_id}  {outcome.reason}".rstrip()
        style = {"failed": "red", "uploaded": "green"}.get(outcome.status, "dim")
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    counts = {status: sum(o.status == status for o in outcomes) for status in ("uploaded", "already", "failed")}
    console.print("{uploaded} uploaded, {already} there already, {failed} failed".format(**counts))
    return counts["failed"]


def sync_run(recordings: Sequence[WandbRecording], limit: TimeLimit) -> list[Outcome]:
    """Upload the unconfirmed rows of one run; ``recordings`` are all recordings of the run, oldest first.

    If one fails, the later ones fail as well, because the rows must arrive in order.
    """
    outcomes: list[Outcome] = []
    try:
        for outcome in _sync_parts(recordings, limit):
            outcomes.append(outcome)
    except (NoAnswerError, UnreadableRecordingError, UploadError, UserError, OSError) as error:
        recording = recordings[len(outcomes)]
        outcomes.append(Outcome(recording=recording, status="failed", reason=f"{error} ({recording.folder})"))
    return outcomes + [
        Outcome(recording=recording, status="failed", reason="goes on from the recording above")
        for recording in recordings[len(outcomes) :]
    ]


def _sync_all(recordings: Iterable[WandbRecording], *, timeout_s: float) -> Iterator[Outcome]:
    """Sync all runs: the recordings of one run one after the other, different runs in parallel."""
    by_run = groupby(sorted(recordings, key=lambda it: (it.run_id, it.started)), key=lambda it: it.run_id)
    runs = [list(parts) for _, parts in by_run]
    stop = threading.Event()
    with ThreadPoolExecutor(_PARALLEL) as pool:
        try:
            for outcomes in pool.map(lambda parts: sync_run(parts, TimeLimit(timeout_s, stop=stop)), runs):
                yield from outcomes
        except BaseException:  # an interrupt must also end a question to a server that does not answer
            stop.set()
            end_service(timeout_s=0)
            raise


def _sync_parts(recordings: Sequence[WandbRecording], limit: TimeLimit) -> Iterator[Outcome]:
    """Sync one run's recordings one by one, and raise an error at the first that fails."""
    for recording in recordings:
        if not recording.is_confirmed:
            recording.check_self_contained()
    attempt = last_attempt(recordings)
    for recording in recordings[: len(recordings) - len(attempt)]:
        yield Outcome(recording=recording, status="superseded", reason="the run was trained again from step 0")
    address, total, num_there = address_of(attempt[0]), 0, None
    for recording in attempt:
        before, total = total, total + recording.num_rows
        if recording is attempt[-1] and not recording.has_ended:
            raise UploadError("recorded no end: still training, or killed; sync again when it has ended, or resume it")
        try:
            num_there = ask(address, limit).rows_of(recordings) if num_there is None else num_there
        except NoAnswerError as error:
            if not recording.is_confirmed:
                raise
            yield Outcome(recording=recording, status="already", reason=f"confirmed before; now {error}")
            continue
        # The last recording is sent even if the server has all its rows: its files or its end may still be missing.
        if num_there >= total and (recording.is_confirmed or recording is not attempt[-1]):
            yield Outcome(recording=recording, status="already", reason=_rows(recording.num_rows))
            continue
        missing = min(max(total - num_there, 0), recording.num_rows)
        where = upload(recording, num_there=recording.num_rows - missing, limit=limit)
        is_all = partial(_has_rows, recordings=recordings, num_rows=total)
        stored = wait_until(address, is_all, limit.at_most(_COUNTING_S))
        num_there = stored.rows_of(recordings)
        if num_there < total:
            has = max(num_there - before, 0)
            raise UploadError(f"W&B took all that was sent, but has {has} of {_rows(recording.num_rows)}")
        recording.mark_confirmed(recording.num_rows)
        yield Outcome(recording=recording, status="uploaded", reason=f"{where}  {_rows(missing)}".strip())


def _has_rows(stored: Stored, *, recordings: Sequence[WandbRecording], num_rows: int) -> bool:
    return stored.rows_of(recordings) >= num_rows


def _rows(number: int) -> str:
    return f"{number} row{'' if number == 1 else 's'}"
