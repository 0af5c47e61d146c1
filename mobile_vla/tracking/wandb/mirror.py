"""Send the rows of one run to W&B: no wandb call can stop or delay the run, and only confirmed rows count as sent."""

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
from mobile_vla.installation import PROGRAM
from mobile_vla.tracking.wandb.call_thread import CallThread, end_service
from mobile_vla.tracking.wandb.confirmation import Address, NoAnswerError, Stored, ask, wait_until
from mobile_vla.tracking.wandb.login import first_line
from mobile_vla.tracking.wandb.recordings import WandbRecording, last_attempt, recordings_of
from mobile_vla.tracking.wandb.sync import sync_run
from mobile_vla.tracking.wandb.time_limit import TimeLimit
from mobile_vla.tracking.wandb.transaction_log import UnreadableRecordingError, end_log

if TYPE_CHECKING:
    import wandb

_LOG = logging.getLogger(__name__)

UPLOAD_SHARE = 0.7
"""The share for uploading in the time limit at the end of a run; in the rest, W&B is asked which rows it has."""

_MAX_WAITING = 10_000
"""Limit of the rows that wait for wandb, about 10 MB; wandb accepts no rows while its service process hangs."""

_SERVICE_START_S = 10.0
"""Time limit for wandb's service process to start on a busy machine; on an idle one it takes about 0.3 s."""

_GRACE_S = 2.0
"""Time that wandb gets in addition to its own time limits; after that its service process hangs, and is killed."""

_POLL_S = 0.05


class OpenWandb:
    """The W&B mirror of one run; call ``start`` once, and ``close`` at the end.

    wandb writes its recordings to ``folder/wandb``. ``is_online`` is True if the rows are to be uploaded now, and
    ``goes_on`` if the run was started before. All wandb calls are made in order in a separate thread: any of them can
    hang if wandb's service process hangs (``run.log`` after about 250 rows), and has no time limit then.
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
        # A run that starts again from step 0 under the same id: W&B may still count the rows of the earlier attempt.
        self._begins_again = not goes_on and bool(recordings_of(run_id, folder))
        self._address: Address | None = None

    def catch_up(self, address: Address, limit: TimeLimit) -> bool:
        """Send the missing rows of earlier calls, and return whether W&B has all rows of the run so far.

        This must come first: W&B numbers rows by arrival, so new rows would get the numbers of the missing ones, and no
        later call could correct that.
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
        """Start the wandb run with the first of ``attempts`` that works; each is a mode and the function to call.

        wandb itself respects ``timeout_s`` as long as its service process answers.

        Raises ConfigError if wandb does not accept the settings of the run.
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
            except Exception as error:  # of wandb, its service or the network: none of them may stop the run
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
        """Send animated images by name, in a separate row."""
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
        """End the wandb run within the time limit, and set ``unconfirmed_rows``; log a warning if rows are missing."""
        limit = TimeLimit(self._finish_timeout_s)
        try:
            self._end(exit_code, limit)
        except BaseException:  # an interrupt: wandb must not delay the end of the process
            end_service(timeout_s=0)
            raise
        if self._run is None:  # W&B could not be started; ``start`` has logged why
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
            _LOG.warning("W&B has stopped recording this run (%s); the local files are complete", why)

    def _end(self, exit_code: int, limit: TimeLimit) -> None:
        # Not `with run:`, which prints the traceback a second time. A lost run is ended as well: while wandb has a run,
        # it allows no login for another run in this process.
        run = self._run
        if run is None:
            return
        ending = self._calls.submit(lambda: run.finish(exit_code=exit_code))
        try:
            ending.result(timeout=UPLOAD_SHARE * limit.seconds + _GRACE_S)
            self._is_complete = not self._is_lost
        except Exception as error:  # any type, as in ``start``
            # wandb raises a TimeoutError itself if the upload took too long: then all rows are recorded on disk.
            if not (isinstance(error, TimeoutError) and ending.done()):
                self._lose(first_line(error) if ending.done() else "its service process does not answer")
        if self._is_lost:
            end_service(timeout_s=_GRACE_S if ending.done() else 0)
            recording = WandbRecording(folder=Path(run.dir).parent)
            # Without an end in the recording, sync would think that the run is still training. If this fails, the
            # missing rows are reported below.
            with contextlib.suppress(UnreadableRecordingError, OSError):
                end_log(recording.path, exit_code=exit_code)

    def _confirm(self, limit: TimeLimit) -> None:
        confirmed, problem = self._ask(limit)
        self.unconfirmed_rows = self._num_logged - confirmed
        recording = self._recording()
        if self.unconfirmed_rows == 0 and self._is_complete and recording is not None:
            with contextlib.suppress(OSError):  # on a full disk: without the mark, sync asks the server again
                recording.mark_confirmed(self._num_logged)
        else:
            _LOG.warning("%s", self._verdict(confirmed, problem))

    def _check_recorded(self, limit: TimeLimit) -> None:
        """Log a warning if an offline recording lacks rows: on a full disk wandb continues without an error."""
        recorded = self._num_recorded(limit)
        if recorded < self._num_logged:
            _LOG.warning("%s; its disk may be full", _recorded_in_part(recorded, self._num_logged))

    def _num_recorded(self, limit: TimeLimit) -> int:
        """Return the number of rows on disk when all are there, or when ``limit`` is over.

        It may have to wait, because wandb's service writes its log a little after the run has finished.
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
        """Return how many of the logged rows W&B has, and an empty text, or 0 and the reason why W&B did not answer."""
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
        except UnreadableRecordingError:  # ``_verdict`` reports what was recorded
            return 0

    def _recording(self) -> WandbRecording | None:
        return None if self._run is None else WandbRecording(folder=Path(self._run.dir).parent)

    def _verdict(self, confirmed: int, problem: str) -> str:
        """Return the warning: how many rows W&B has, where the others are, and the command that sends them."""
        total, missing = self._num_before + self._num_logged, self._num_logged - confirmed
        said = f"W&B has confirmed {total - missing} of {total} rows" + (f" ({problem})" if problem else "")
        command = f"{PROGRAM} sync {self._folder} sends"
        if missing == 0:
            return f"{said}, but did not take all files in time: {command} them"
        recorded = self._num_recorded(TimeLimit(_GRACE_S))
        if recorded == self._num_logged:
            return f"{said}; the other {missing} are in {self._folder}: {command} them"
        rest = f": {command} what was recorded" if recorded > confirmed else ""
        return f"{said}; {_recorded_in_part(recorded, self._num_logged)}{rest}"


def _recorded_in_part(recorded: int, num_logged: int) -> str:
    return f"W&B's client recorded {recorded} of the {num_logged} rows of this run, metrics.jsonl has them all"
