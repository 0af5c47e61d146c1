"""The recordings that W&B's client wrote to disk, online or offline: their runs, rows, and whether W&B has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mobile_vla.errors import UserError
from mobile_vla.storage.disk import write_atomically
from mobile_vla.tracking.wandb.transaction_log import TransactionLog, UnreadableRecordingError, read_log
from mobile_vla.untrusted.files import check_links, inside, walk

_OFFLINE, _ONLINE = "offline-run-", "run-"

_NAMING_ELSEWHERE = ("artifact", "use_artifact", "link_artifact", "request")
"""Types of records that can name files outside the recording."""


@dataclass(frozen=True, kw_only=True)
class WandbRecording:
    """One recording, ``[offline-]run-DATE_TIME-RUN_ID``; a run that was stopped and resumed has several."""

    folder: Path

    @property
    def started(self) -> str:
        """The time when it began, to the second, as it is in the name."""
        return self.folder.name.removeprefix("offline-").removeprefix(_ONLINE).split("-", 1)[0]

    @property
    def run_id(self) -> str:
        """The id of the run on W&B."""
        return self.folder.name.removeprefix("offline-").removeprefix(_ONLINE).split("-", 1)[1]

    @property
    def path(self) -> Path:
        """The transaction log, from which everything is uploaded."""
        return self.folder / f"run-{self.run_id}.wandb"

    @property
    def confirmed_mark(self) -> Path:
        """The file beside the log that marks it as uploaded.

        ``wandb sync`` writes an empty file when it believes that it has sent everything. ``mark_confirmed`` writes one
        with a text, after the server has confirmed the rows.
        """
        return self.path.with_suffix(".wandb.synced")

    @property
    def is_confirmed(self) -> bool:
        """Whether W&B confirmed all of it, including files and end; an empty file, written by wandb, does not count."""
        return self.confirmed_mark.exists() and self.confirmed_mark.stat().st_size > 0

    def mark_confirmed(self, num_rows: int) -> None:
        """Record that W&B confirmed all of it."""
        write_atomically(self.confirmed_mark, f"W&B confirmed {num_rows} rows\n")

    @cached_property
    def log(self) -> TransactionLog:
        """The recorded data. Raises UnreadableRecordingError."""
        return read_log(self.path)

    @property
    def num_rows(self) -> int:
        """The number of rows in it. Raises UnreadableRecordingError, like the next two properties."""
        return len(self.log.timestamps)

    @property
    def has_ended(self) -> bool:
        """Whether an end was recorded; if not, the run is still training, or was killed."""
        return self.log.has_ended

    @property
    def goes_on(self) -> bool:
        """Whether it continues an earlier recording of the same run."""
        return self.log.run.run.resume

    def check_self_contained(self) -> None:
        """Raise UnreadableRecordingError if a link in it, or its log, names a file outside of it.

        wandb would upload that file as well, and a recording from another person could so name a private file. The log
        files of wandb's service are outside too, but they are not uploaded.
        """
        try:
            if self.folder.is_symlink():
                inside(self.folder.parent, self.folder.name)
            check_links(self.folder / "files", root=self.folder)
            inside(self.folder, self.path.name)
            for record in self.log.records:
                for file in record.files.files if record.WhichOneof("record_type") == "files" else ():
                    inside(self.folder / "files", file.path)
        except UnreadableRecordingError:
            raise
        except UserError as error:
            raise UnreadableRecordingError(f"{error} It is not uploaded.") from error
        kinds = {record.WhichOneof("record_type") for record in self.log.records}
        if named := sorted(kinds.intersection(_NAMING_ELSEWHERE)):
            raise UnreadableRecordingError(
                f"{self.path} holds a record of type {named[0]}, which no run of mobile_vla writes and could name "
                "any file. It is not uploaded."
            )


def find_recordings(folder: Path) -> list[WandbRecording]:
    """Return all recordings at or below ``folder``, oldest first.

    Raises ``UserError`` if a folder cannot be read.
    """
    candidates = [folder, *(path / name for path, names in walk(folder) for name in names)]
    # wandb also makes a link ``latest-run`` to the newest one; its name does not match.
    found = {path for path in candidates if path.name.startswith((_OFFLINE, _ONLINE)) and path.is_dir()}
    recordings = [
        WandbRecording(folder=path) for path in found if path.name.count("-") > path.name.startswith(_OFFLINE) + 1
    ]
    return sorted(
        (recording for recording in recordings if recording.path.exists()), key=lambda it: (it.started, it.folder.name)
    )


def recordings_of(run_id: str, folder: Path) -> list[WandbRecording]:
    """Return the recordings of one run directly in ``folder/wandb``, oldest first."""
    return [recording for recording in find_recordings(folder / "wandb") if recording.run_id == run_id]


def last_attempt(recordings: Sequence[WandbRecording]) -> list[WandbRecording]:
    """Return the last attempt of one run: those of its ``recordings``, oldest first, since it last began at step 0."""
    starts = [position for position, recording in enumerate(recordings) if not recording.goes_on]
    return list(recordings[starts[-1] if starts else 0 :])


def viewing_hint(folder: Path) -> str | None:
    """Return the command that shows the recordings of a sweep together in the terminal; None for less than two."""
    recordings = folder / "wandb"
    return f"wandb leet {recordings}" if len(list(recordings.glob(f"{_OFFLINE}*"))) > 1 else None
