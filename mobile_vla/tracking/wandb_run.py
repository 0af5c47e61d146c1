"""Pass the rows of one run on to W&B: no call of wandb's can stop the run, hold it up, or pretend that rows arrived."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mobile_vla.errors import ConfigError
from mobile_vla.tracking.call_thread import CallThread, end_service
from mobile_vla.tracking.confirmation import Address, NoAnswerError, Stored, ask, wait_until
from mobile_vla.tracking.recordings import Recording, last_attempt, recordings_of
from mobile_vla.tracking.sync import sync_run
from mobile_vla.tracking.time_limit import TimeLimit
from mobile_vla.tracking.transaction_log import UnreadableRecordingError, end_log
from mobile_vla.tracking.wandb_login import first_line

if TYPE_CHECKING:
    import wandb

_LOG = logging.getLogger(__name__)

UPLOAD_SHARE = 0.7
"""Of the time that the end of a run may take; in the rest W&B is asked what it has."""

_MAX_WAITING = 10_000
"""Rows that wait for wandb to take them, some 10 MB; wandb stops taking them where its service process hangs."""

_SERVICE_START_S = 10.0
"""What wandb's service process may take to start on a busy machine; it is some 0.3 s on an idle one."""

_GRACE_S = 2.0
"""What wandb may take beyond its own limits to end; then its service process hangs, and is killed."""

_POLL_S = 0.05


class WandbMirror:
    """Mirror one run; ``start`` it once and ``close`` it at the end.

    ``folder/wandb`` holds what wandb records, ``is_online`` says that W&B is to have the rows, and ``goes_on`` that the
    run was begun before. All of wandb's calls are made in a thread of their own, in order: each can hang where its
    service process does (``run.log`` after some 250 rows), and none of them has a time limit there.
    """

    def __init__(self, run_id: str, folder: Path, *, finish_timeout_s: float, is_online: bool, goes_on: bool) -> None:
        self.url: str | None = None
        self.unconfirmed_rows: int | None = None
        self._run_id, self._folder = run_id, folder
        self._finish_timeout_s, self._is_online = finish_timeout_s, is_online
        self._calls = CallThread("wandb")
        self._run: wandb.Run | None = None
        self._lock = threading.Lock()
        self._is_lost = self._is_complete = False
        self._num_before = self._num_logged = 0
        # W&B may still count the rows of an earlier attempt under the same id.
        self._begins_again = not goes_on and bool(recordings_of(run_id, folder))
        self._address: Address | None = None

    def catch_up(self, address: Address, limit: TimeLimit) -> bool:
        """Return whether W&B has all rows of the run so far, after sending what is missing.

        New rows would take the places of those that are missing, and no later call could put them right.
        """
        try:
            recordings = recordings_of(self._run_id, self._folder)
            expected = sum(recording.num_rows for recording in last_attempt(recordings))
            question = partial(ask, address, limit)
            stored = self._calls.call(question, timeout_s=limit.left_s + _GRACE_S)
            failed = []
            if stored.rows_of(recordings) < expected:
                failed = [outcome for outcome in sync_run(recordings, limit) if outcome.status == "failed"]
                stored = stored if failed else self._calls.call(question, timeout_s=limit.left_s + _GRACE_S)
            self._num_before = stored.num_rows
            if not failed:
                return True
            has = f"it has {stored.rows_of(recordings)} of {expected} earlier rows"
            problem = f"{has}; sending the others: {failed[0].reason}"
        except (NoAnswerError, TimeoutError, UnreadableRecordingError, OSError) as error:
            problem = str(error) or limit.reason
        self._num_before = 0
        _LOG.warning("W&B cannot go on with this run (%s): recording offline", problem)
        return False

    def start(self, attempts: Iterable[tuple[str, Callable[[], wandb.Run]]], *, timeout_s: float) -> None:
        """Start the wandb run by the first of ``attempts`` that works, each of them a mode and what starts it.

        wandb keeps to ``timeout_s`` by itself as long as its service process answers.

        Raises ConfigError where wandb does not accept the run's settings.
        """
        from wandb.errors import UsageError

        for mode, attempt in attempts:
            try:
                run = self._run = self._calls.call(attempt, timeout_s=timeout_s + _SERVICE_START_S)
                self.url = None if run.offline else run.url
                if not run.offline:
                    self._address = Address(project=run.project, entity=run.entity, run_id=self._run_id)
                return
            except UsageError as error:
                raise ConfigError(f"logger: W&B does not accept this run: {error}") from error
            except Exception as error:  # wandb's own, its service's private ones, the network's: none may stop the run
                consequence = "W&B gets nothing of this run" if mode == "offline" else "trying offline"
                _LOG.warning("W&B could not start %s (%s): %s", mode, first_line(error), consequence)
                self._calls.end()
                end_service(timeout_s=0 if isinstance(error, TimeoutError) else _GRACE_S)
                self._calls = CallThread("wandb")
        self._is_lost = True

    def log(self, row: Mapping[str, float | int]) -> None:
        """Send one line of ``metrics.jsonl``, in the background."""
        copy = dict(row)
        self._num_logged += 1
        self._pass_on(lambda run: run.log(copy))

    def log_videos(self, videos: Mapping[str, Path]) -> None:
        """Send animated images, each under its name, as a row of their own."""
        import wandb

        if videos:
            self._num_logged += 1
            self._pass_on(
                lambda run: run.log(
                    {f"videos/{name}": wandb.Video(str(path), caption=path.stem) for name, path in videos.items()}
                )
            )

    def finish(self, summary: Mapping[str, object]) -> None:
        """Send the flat final values of ``summary.json``."""
        copy = dict(summary)
        self._pass_on(lambda run: run.summary.update(copy))

    def close(self, *, exit_code: int) -> None:
        """End the wandb run within the time limit, and say how many rows W&B has not confirmed."""
        limit = TimeLimit(self._finish_timeout_s)
        try:
            self._end(exit_code, limit)
        except BaseException:  # an interrupt: nothing of wandb's may hold up the end of the process
            end_service(timeout_s=0)
            raise
        if self._run is None:  # W&B could not be started, which was said then
            self.unconfirmed_rows = self._num_logged
            _LOG.warning("W&B has nothing of this run: none of its %d rows was recorded for it", self._num_logged)
        elif self._is_online:
            self._confirm(TimeLimit(max(limit.left_s, (1 - UPLOAD_SHARE) * self._finish_timeout_s)))
        elif self._is_complete:
            self._check_recorded(limit.at_most(_GRACE_S))
        self._calls.end()

    def _pass_on(self, call: Callable[[wandb.Run], object]) -> None:
        def attempt() -> None:
            if self._is_lost or self._run is None:
                return
            try:
                call(self._run)
            except Exception as error:  # as in start
                self._lose(first_line(error))

        if self._calls.num_waiting < _MAX_WAITING:
            self._calls.submit(attempt)
        else:
            self._lose(f"it has not taken {_MAX_WAITING} rows")

    def _lose(self, why: str) -> None:
        with self._lock:
            is_news, self._is_lost = not self._is_lost, True
        if is_news:
            _LOG.warning("W&B has stopped recording this run (%s); the local files go on", why)

    def _end(self, exit_code: int, limit: TimeLimit) -> None:
        # Not `with run:`, which prints the traceback a second time. A lost run is ended too: as long as wandb has it,
        # it lets no other one of this process log in.
        run = self._run
        if run is None:
            return
        ending = self._calls.submit(lambda: run.finish(exit_code=exit_code))
        try:
            ending.result(timeout=UPLOAD_SHARE * limit.seconds + _GRACE_S)
            self._is_complete = not self._is_lost
        except Exception as error:  # as in start
            # wandb raises a TimeoutError of its own where uploading took too long: then all is recorded on disk.
            if not (isinstance(error, TimeoutError) and ending.done()):
                self._lose(first_line(error) if ending.done() else "its service process does not answer")
        if self._is_lost:
            end_service(timeout_s=_GRACE_S if ending.done() else 0)
            recording = Recording(folder=Path(run.dir).parent)
            # Without an end, sync would take it for a run that is still training; where this fails, that is said below.
            with contextlib.suppress(UnreadableRecordingError, OSError):
                end_log(recording.path, exit_code=exit_code)

    def _confirm(self, limit: TimeLimit) -> None:
        confirmed, problem = self._ask(limit)
        self.unconfirmed_rows = self._num_logged - confirmed
        recording = self._recording()
        if self.unconfirmed_rows == 0 and self._is_complete and recording is not None:
            with contextlib.suppress(OSError):  # a full disk: without the mark, sync asks again
                recording.mark_confirmed(self._num_logged)
        else:
            _LOG.warning("%s", self._verdict(confirmed, problem))

    def _check_recorded(self, limit: TimeLimit) -> None:
        """Say how many rows an offline recording lacks: on a full disk wandb goes on without a word."""
        recorded = self._num_recorded(limit)
        if recorded < self._num_logged:
            _LOG.warning("%s; its disk may be full", _recorded_in_part(recorded, self._num_logged))

    def _num_recorded(self, limit: TimeLimit) -> int:
        """Return how many rows lie on disk once all do, or when ``limit`` is over.

        wandb's service writes its log a little after the run has finished.
        """
        while True:
            recording = self._recording()
            try:
                number = 0 if recording is None else recording.num_rows
            except UnreadableRecordingError:  # a service that was killed, or a full disk
                number = 0
            if number >= self._num_logged or limit.is_over or self._is_lost:
                return number
            time.sleep(_POLL_S)

    def _ask(self, limit: TimeLimit) -> tuple[int, str]:
        """Return how many of the logged rows W&B says it has, and why it says nothing where it does not."""
        address = self._address
        if address is None:
            return 0, ""
        calls = CallThread("wandb question")
        try:
            question = partial(wait_until, address, lambda it: self._num_confirmed(it) >= self._num_logged, limit)
            return self._num_confirmed(calls.call(question, timeout_s=limit.left_s + _GRACE_S)), ""
        except (NoAnswerError, TimeoutError) as error:
            return 0, str(error) or f"W&B could not be asked: {limit.reason}"
        finally:
            calls.end()

    def _num_confirmed(self, stored: Stored) -> int:
        if not self._begins_again:
            return min(max(stored.num_rows - self._num_before, 0), self._num_logged)
        try:
            return min(stored.rows_of(recordings_of(self._run_id, self._folder)), self._num_logged)
        except UnreadableRecordingError:  # what it holds is said below
            return 0

    def _recording(self) -> Recording | None:
        return None if self._run is None else Recording(folder=Path(self._run.dir).parent)

    def _verdict(self, confirmed: int, problem: str) -> str:
        """Return what W&B has, where the rest is, and what sends it."""
        total, missing = self._num_before + self._num_logged, self._num_logged - confirmed
        said = f"W&B has confirmed {total - missing} of {total} rows" + (f" ({problem})" if problem else "")
        command = f"python -m mobile_vla sync {self._folder} sends"
        if missing == 0:
            return f"{said}, but did not take all files in time: {command} them"
        recorded = self._num_recorded(TimeLimit(_GRACE_S))
        if recorded == self._num_logged:
            return f"{said}; the other {missing} are in {self._folder}: {command} them"
        rest = f": {command} what was recorded" if recorded > confirmed else ""
        return f"{said}; {_recorded_in_part(recorded, self._num_logged)}{rest}"


def _recorded_in_part(recorded: int, num_logged: int) -> str:
    return f"W&B's client recorded {recorded} of the {num_logged} rows of this run, metrics.jsonl has them all"
