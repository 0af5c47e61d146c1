"""Ask the W&B server how many rows of a run it has: what its client believes to have sent is no confirmation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mobile_vla.tracking.recordings import Recording, last_attempt
from mobile_vla.tracking.time_limit import TimeLimit
from mobile_vla.tracking.wandb_login import first_line, has_key

_PAUSE_S = 0.5
"""Between two questions: W&B counts rows a little after it takes them."""

_SHORTEST_S = 0.1
"""Less is no time to answer in."""

# The question with which wandb itself resumes a run; a line of the run's history is one row.
_QUERY = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) { name historyLineCount historyTail }
  }
}"""


class NoAnswerError(Exception):
    """The server could not be asked, or gave no sensible answer; the message says why in one line."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a run is on W&B; ``entity`` None or empty means the account's default."""

    project: str
    entity: str | None
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What the server has of a run: how many rows, and when its last one was logged (None where it does not say)."""

    num_rows: int
    last_timestamp: float | None

    def rows_of(self, recordings: Sequence[Recording]) -> int:
        """Return how many of the rows of the run's last attempt the server has.

        ``recordings`` are all of the run, oldest first. Rows arrive in order, so that a number says which. Where the
        run was trained again from step 0 under its id, the server may still count the rows of the attempt before; then
        its last row decides.
        """
        attempt = last_attempt(recordings)
        timestamps = [timestamp for recording in attempt for timestamp in recording.log.timestamps]
        if len(attempt) == len(recordings):
            return min(self.num_rows, len(timestamps))
        return timestamps.index(self.last_timestamp) + 1 if self.last_timestamp in timestamps else 0


def address_of(recording: Recording) -> Address:
    """Return where the run of ``recording`` goes. Raises UnreadableRecordingError."""
    run = recording.log.run.run
    return Address(project=run.project, entity=run.entity, run_id=recording.run_id)


def ask(address: Address, limit: TimeLimit) -> Stored:
    """Return what the server has of a run, nothing where it does not know it, before ``limit`` is over.

    Raises NoAnswerError. Needs a login.
    """
    import wandb
    from wandb.apis.public.service_api import ServiceApi

    variables = {"project": address.project, "entity": address.entity or None, "name": address.run_id}
    try:
        if not has_key(insist=True):
            raise NoAnswerError("W&B cannot be asked: no usable key is configured")
        # wandb.Api() asks who we are first, each time.
        api = ServiceApi(wandb.setup().settings)
        answer = api.execute_graphql(_QUERY, variables, timeout=max(limit.left_s, _SHORTEST_S))
        bucket = (answer["model"] or {}).get("bucket")
        return _stored(bucket) if bucket else Stored(num_rows=0, last_timestamp=None)
    except NoAnswerError:
        raise
    except Exception as error:  # wandb raises its service's private errors too; and a server may answer anything
        why = limit.reason if limit.left_s < _SHORTEST_S else first_line(error)
        raise NoAnswerError(f"W&B could not be asked: {why}") from error


def wait_until(address: Address, is_enough: Callable[[Stored], bool], limit: TimeLimit) -> Stored:
    """Return what the server has once that ``is_enough``, or what it has when ``limit`` is over.

    Raises NoAnswerError where the last question had no answer.
    """
    while True:
        try:
            stored, problem = ask(address, limit), None
        except NoAnswerError as error:
            stored, problem = None, error
        if stored is not None and (is_enough(stored) or limit.left_s < _PAUSE_S):
            return stored
        if problem is not None and limit.left_s < _PAUSE_S:
            raise problem
        time.sleep(_PAUSE_S)


def unconfirmed_runs(recordings: Iterable[Recording], limit: TimeLimit) -> set[str]:
    """Return the ids of the runs of which W&B has not said, before ``limit`` is over, that it has all recorded rows.

    Raises UnreadableRecordingError.
    """
    runs: dict[str, list[Recording]] = {}
    for recording in recordings:
        runs.setdefault(recording.run_id, []).append(recording)
    missing = set()
    for run_id, parts in runs.items():
        attempt = last_attempt(parts)
        try:
            num_there = ask(address_of(attempt[0]), limit).rows_of(parts)
        except NoAnswerError:
            num_there = 0
        if num_there < sum(recording.num_rows for recording in attempt):
            missing.add(run_id)
    return missing


def _stored(bucket: dict[str, Any]) -> Stored:
    tail = json.loads(bucket.get("historyTail") or "[]")
    last = json.loads(tail[-1]) if tail else {}
    return Stored(num_rows=int(bucket["historyLineCount"] or 0), last_timestamp=last.get("_timestamp"))
