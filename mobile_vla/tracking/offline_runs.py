"""Find the runs that W&B's client recorded on disk, and say which of them are on the server."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import check_links, inside

_FOLDER_PREFIX = "offline-run-"
_NAMING_ELSEWHERE = ("artifact", "use_artifact", "link_artifact", "request")
"""Types of records whose files lie anywhere."""


class UnreadableRecordingError(UserError):
    """A recording does not say what it holds; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class OfflineRun:
    """One recording, ``offline-run-DATE_TIME-RUN_ID``; a run that was stopped and resumed has several."""

    folder: Path

    @property
    def run_id(self) -> str:
        """The id the run has on W&B."""
        return self.folder.name.removeprefix(_FOLDER_PREFIX).split("-", 1)[1]

    @property
    def log(self) -> Path:
        """The transaction log, all that is uploaded comes from it."""
        return self.folder / f"run-{self.run_id}.wandb"

    @property
    def uploaded_mark(self) -> Path:
        """The file that stands beside the log once the server has all of it: ``wandb sync`` writes and obeys it."""
        return self.log.with_suffix(".wandb.synced")

    @property
    def is_uploaded(self) -> bool:
        """Whether the server has all of it."""
        return self.uploaded_mark.exists()

    @property
    def has_ended(self) -> bool:
        """Whether an end was recorded; without one it is still training, or was killed.

        Raises UnreadableRecordingError, as ``goes_on`` does.
        """
        return "exit" in self._records

    @property
    def goes_on(self) -> bool:
        """Whether it continues an earlier recording of the same run."""
        return bool(self._records["run"].get("resume"))

    def check_self_contained(self) -> None:
        """Raise UnreadableRecordingError where a link in it, or its log, names what lies elsewhere.

        Whoever uploads it would send that along. The logs of wandb's own service lie elsewhere, and are not sent.
        """
        try:
            if self.folder.is_symlink():
                inside(self.folder.parent, self.folder.name)
            check_links(self.folder / "files", root=self.folder)
            inside(self.folder, self.log.name)
        except UserError as error:
            raise UnreadableRecordingError(f"{error} It is not uploaded.") from error
        _ = self._records

    def _check_names(self, record: dict[str, Any]) -> None:
        if record["type"] in _NAMING_ELSEWHERE:
            raise UnreadableRecordingError(
                f"{self.log} holds a record of type {record['type']}, which no run of mobile_vla writes and which "
                "could name any file. It is not uploaded."
            )
        for file in record.get("files", {}).get("files", ()):
            try:
                inside(self.folder / "files", file.get("path", ""))
            except UserError as error:
                raise UnreadableRecordingError(f"{self.log}: {error} It is not uploaded.") from error

    @cached_property
    def _records(self) -> dict[str, dict[str, object]]:
        """The last record of each type, as wandb's own reader gives them; a torn one is left out."""
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(self.log)]
        shown = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        remedy = f"If its run has ended, move {self.folder} away and sync again."
        if shown.returncode != 0:
            what = next(iter(shown.stderr.splitlines()[-1:]), f"wandb leet inspect ended with {shown.returncode}")
            raise UnreadableRecordingError(f"{self.log} cannot be read ({what}). {remedy}")
        lines = [json.loads(line) for line in shown.stdout.splitlines()]
        for line in lines:
            self._check_names(line)
        records = {record["type"]: record[record["type"]] for record in lines}
        if "run" not in records:
            raise UnreadableRecordingError(f"{self.log} says of no run what it is; it breaks off before. {remedy}")
        return records


def find_offline_runs(folder: Path) -> list[OfflineRun]:
    """Return the recordings that ``folder`` is or holds at any depth, oldest first."""
    candidates = [folder, *folder.rglob(f"{_FOLDER_PREFIX}*")]
    runs = [OfflineRun(folder=path) for path in candidates if path.name.startswith(_FOLDER_PREFIX) and path.is_dir()]
    return sorted((run for run in runs if run.log.exists()), key=lambda run: run.folder.name)


def viewing_hint(folder: Path) -> str | None:
    """Return the command that overlays the recordings of one sweep in the terminal; None without at least two."""
    recordings = folder / "wandb"
    return f"wandb leet {recordings}" if len(list(recordings.glob(f"{_FOLDER_PREFIX}*"))) > 1 else None
