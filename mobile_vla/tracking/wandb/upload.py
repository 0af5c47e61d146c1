"""Upload one recording to W&B with wandb's own command, without the rows that are there, within a time limit."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mobile_vla.tracking.wandb.recordings import WandbRecording
from mobile_vla.tracking.wandb.time_limit import TimeLimit
from mobile_vla.tracking.wandb.transaction_log import Record, is_end, is_row, write_log

_POLL_S = 0.05
_ERROR = "wandb: ERROR "


class UploadError(Exception):
    """The recording was not uploaded; the message is one line with the reason."""


def upload(recording: WandbRecording, *, num_there: int, limit: TimeLimit) -> str:
    """Upload ``recording`` without its first ``num_there`` rows; return the run's URL, empty if wandb prints none.

    It does not check that the rows arrived: wandb's command exits with 0 even if they did not, so the server must be
    asked. Raises UploadError, at the latest when ``limit`` is over; no process is left running.
    """
    # A copy without these rows, because wandb appends all rows of a log to those that the server has, at every upload.
    with tempfile.TemporaryDirectory(prefix="mobile_vla-sync-") as scratch:
        copy = Path(scratch) / f"offline-{recording.folder.name.removeprefix('offline-')}"
        copy.mkdir()
        files, state = recording.folder / "files", recording.path.with_suffix(".wandb.syncstate")
        if files.exists():
            (copy / "files").symlink_to(files.resolve())
        if state.exists():  # it has the W&B step at which the recording began
            shutil.copy(state, copy)
        write_log(copy / recording.path.name, _without_rows(recording.log.records, num_there))
        lines = _wandb_sync(copy, limit)
        if (copy / state.name).exists():
            shutil.copy(copy / state.name, state)
    errors = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
    if errors:
        raise UploadError("; ".join(errors))
    return next((line.rpartition(" at ")[2] for line in lines if "View run" in line), "")


def _without_rows(records: Sequence[Record], num_rows: int) -> Iterator[Record]:
    """Yield ``records`` without the first ``num_rows`` rows, and with at most one end.

    Rows can be left out because each one has its own step. wandb may record a second end while its service is being
    ended, and then it refuses to upload the recording.
    """
    seen, has_ended = 0, False
    for record in records:
        seen += is_row(record)
        if (is_row(record) and seen <= num_rows) or (is_end(record) and has_ended):
            continue
        has_ended = has_ended or is_end(record)
        yield record


def _wandb_sync(folder: Path, limit: TimeLimit) -> list[str]:
    """Upload ``folder`` with wandb's command, and return the lines that the command printed."""
    command = [sys.executable, "-m", "wandb", "sync", str(folder)]
    # Without WANDB_SERVICE the command starts its own service, which ends with it. In the service of this process the
    # upload would continue after the command was killed.
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            while process.poll() is None:
                if limit.is_over:
                    raise UploadError(limit.reason)
                time.sleep(_POLL_S)
        finally:
            _end(process)
        said.seek(0)
        lines = said.read().splitlines()
    if process.returncode != 0:
        raise UploadError(next(iter(lines[-1:]), f"wandb sync ended with {process.returncode}"))
    return lines


def _end(process: subprocess.Popen) -> None:
    """Kill ``process`` and its children: wandb's service runs in its own session and would retry for a week."""
    import psutil

    if process.poll() is not None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()
