"""Query how many rows of a run the W&B server has: that the client has sent them does not prove that they arrived."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mobile_vla.tracking.wandb.login import first_line, has_key
from mobile_vla.tracking.wandb.recordings import WandbRecording, last_attempt
from mobile_vla.tracking.wandb.time_limit import TimeLimit

_PAUSE_S = 0.5
"""Time between two questions, because W&B counts rows a little after it has received them."""

_SHORTEST_S = 0.1
"""The shortest time limit for a request; with less time left, an answer cannot be expected."""

# The query with which wandb itself resumes a run; one line of the run's history is one row.
_QUERY = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) { name historyLineCount historyTail }
  }
}"""


class NoAnswerError(Exception):
    """The server could not be asked, or its answer was not valid; the message is one line with the reason."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """The place of a run on W&B; if ``entity`` is None or empty, it is the default entity of the account."""

    project: str
    entity: str | None
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What the server has of a run: the number of rows, and the time of the last one (None if it is not known)."""

    num_rows: int
    last_timestamp: float | None

    def rows_of(self, recordings: Sequence[WandbRecording]) -> int:
        """Return how many rows of the run's last attempt the server has.

        ``recordings`` are all recordings of the run, oldest first. Rows arrive in order, so the number of rows says
        which ones have arrived. If the run was trained again from step 0 under the same id, the server may still count
        the rows of the earlier attempt; then the time of its last row is used.
        """
        attempt = last_attempt(recordings)
        timestamps = [timestamp for recording in attempt for timestamp in recording.log.timestamps]
        if len(attempt) == len(recordings):
            return min(self.num_rows, len(timestamps))
        return timestamps.index(self.last_timestamp) + 1 if self.last_timestamp in timestamps else 0


def address_of(recording: WandbRecording) -> Address:
    """Return the place on W&B to which ``recording`` belongs. Raises UnreadableRecordingError."""
    run = recording.log.run.run
    return Address(project=run.project, entity=run.entity, run_id=recording.run_id)


def ask(address: Address, limit: TimeLimit) -> Stored:
    """Return what the server has of a run, before ``limit`` is over; no rows if it does not know the run.

    Raises NoAnswerError, also if no key is configured.
    """
    import wandb
    from wandb.apis.public.service_api import ServiceApi

    variables = {"project": address.project, "entity": address.entity or None, "name": address.run_id}
    try:
        if not has_key(insist=True):
            raise NoAnswerError("W&B cannot be asked: no usable key is configured")
        # Not wandb.Api(), which first makes another request each time, for the name of the user.
        api = ServiceApi(wandb.setup().settings)
        answer = api.execute_graphql(_QUERY, variables, timeout=max(limit.left_s, _SHORTEST_S))
        bucket = (answer["model"] or {}).get("bucket")
        return _stored(bucket) if bucket else Stored(num_rows=0, last_timestamp=None)
    except NoAnswerError:
        raise
    except Exception as error:  # also private errors of wandb's service, and an answer may have any content
        why = limit.reason if limit.left_s < _SHORTEST_S else first_line(error)
        raise NoAnswerError(f"W&B could not be asked: {why}") from error


def wait_until(address: Address, is_enough: Callable[[Stored], bool], limit: TimeLimit) -> Stored:
    """Return what the server has as soon as that ``is_enough``, at the latest when ``limit`` is over.

    Raises NoAnswerError if the last question had no answer.
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


def unconfirmed_runs(recordings: Iterable[WandbRecording], limit: TimeLimit) -> set[str]:
    """Return the ids of the runs for which W&B has not confirmed all recorded rows before ``limit`` is over.

    Raises UnreadableRecordingError.
    """
    runs: dict[str, list[WandbRecording]] = {}
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
