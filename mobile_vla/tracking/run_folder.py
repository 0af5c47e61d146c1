"""Write the files of one run, with all that a comparison needs; they are the reference, and W&B has a copy."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mobile_vla.errors import UserError
from mobile_vla.storage.disk import write_atomically
from mobile_vla.storage.disk_sync import sync_file
from mobile_vla.untrusted.files import inside, lines_of, parse_json, parse_row

_TRACEBACK = "traceback.txt"
_SAID = ("summary.json", "manifest.json", "config.yaml", "split.json", "spec.json", "metrics.jsonl", _TRACEBACK)
"""The files that every call writes again."""

_MAX_ROWS, _MAX_METRICS_BYTES = 5_000_000, 2 * 2**30
"""Limits for a log that is read when a run is resumed; a row of an evaluation has 3.5 kB, any other row 0.6 kB."""

_ENDED_WELL = ("done", "stopped")


class RunFolder:
    """The folder of one run: config, manifest, split, metrics, summary and ``checkpoints/``.

    ``add_to_summary`` collects the values of the summary, which is written for a failed run as well. Nothing is written
    before ``begin``. ``status`` is the status in the summary now; ``has_rows`` is True if ``metrics.jsonl`` has a row
    of this attempt.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, object] = {}
        self.status: str | None = None
        self.has_rows = False
        self._before: dict[str, bytes] = {}
        path.mkdir(parents=True, exist_ok=True)

    def begin(self, manifest: Mapping[str, object], *, goes_on: bool = False) -> None:
        """Write the manifest and a summary with the status ``running``; delete the traceback of an earlier failure.

        If an earlier run ``goes_on``, its files are kept in memory until this call has logged a row, so that ``fail``
        and ``stop`` can restore them.
        """
        if goes_on:
            self._before = {name: path.read_bytes() for name in _SAID if (path := self.path / name).is_file()}
        self.write_manifest(manifest)
        (self.path / _TRACEBACK).unlink(missing_ok=True)
        self.known = {key: manifest[key] for key in ("sampler", "seed", "study", "commit")}
        self.add_to_summary({"steps": 0, "samples_seen": 0, "wall_s": 0.0})
        self.write_summary("running")

    def add_to_summary(self, facts: Mapping[str, object]) -> None:
        """Add ``facts`` to the summary values; later ones replace earlier ones."""
        self.known |= facts

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    def start_metrics(self, *, history: Sequence[str]) -> None:
        """Start ``metrics.jsonl`` with the lines ``history``: none, or the rows of the run that is resumed.

        Rows after the checkpoint that is resumed are not in ``history``: those steps are trained and logged again.
        """
        write_atomically(self.path / "metrics.jsonl", "".join(history))
        self.has_rows = bool(history)

    def log(self, row: Mapping[str, float | int]) -> None:
        """Append one flat row; it must have ``step`` and ``samples_seen``."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(f"{json.dumps(_strict(row), allow_nan=False)}\n")
        self.has_rows = True
        self._before = {}

    def sync_metrics(self) -> None:
        """Return when all logged rows are on the disk: no checkpoint may be there without the rows before it."""
        sync_file(self.path / "metrics.jsonl")

    def write_manifest(self, manifest: Mapping[str, object]) -> None:
        """Write the manifest: choices, overrides, commit, versions."""
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=1) + "\n")

    def write_summary(self, status: str) -> None:
        """Write the known values to the flat ``summary.json``; a number that is missing or not finite is null."""
        self.status = status
        summary = _strict({**self.known, "status": status})
        write_atomically(self.path / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")

    def stop(self, by: str) -> None:
        """Record that the run was stopped ``by`` a signal or a limit, under the same conditions as ``fail``."""
        if self.status != "running" or self._had_ended_well():
            return
        self.add_to_summary({"stopped_by": by})
        self.write_summary("stopped")

    def fail(self, error: BaseException) -> None:
        """Record that the run failed: write ``traceback.txt``, and a summary with the first line of ``error``.

        Nothing is written before ``begin`` and after the end of the run was recorded, because the error is then not one
        of the run. If a resumed run has logged nothing, the files of the earlier call are restored, and the failure is
        recorded only if the earlier call had not ended well.
        """
        if self.status != "running" or self._had_ended_well():
            return
        (self.path / _TRACEBACK).write_text("".join(traceback.format_exception(error)))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(error, UserError):
            reason = f"{type(error).__name__}: {reason}"
        self.add_to_summary({"error": reason})
        self.write_summary("failed")

    def _had_ended_well(self) -> bool:
        """Restore the files from before ``begin`` if nothing was logged since then.

        Return True if they are of a run that ended well: they then stay as they are.
        """
        if not self._before:
            return False
        for name in _SAID:
            if name in self._before:
                write_atomically(self.path / name, self._before[name])
            else:
                (self.path / name).unlink(missing_ok=True)
        self.known = parse_json(self._before.get("summary.json", b"{}"), place=str(self.path / "summary.json"))
        status = str(self.known.pop("status", None))
        if status not in _ENDED_WELL:
            return False
        self.status = status
        return True


def read_metrics(folder: Path, *, up_to_step: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of ``metrics.jsonl`` up to ``up_to_step``; skip an incomplete last line, as a kill leaves it.

    Raises ``UserError`` if the file is missing, or if another line is not a row.
    """
    path = inside(folder, "metrics.jsonl")
    if not path.is_file():
        raise UserError(f"{path}: is missing; expected the rows that the run has logged so far")
    for place, line in lines_of(path, max_lines=_MAX_ROWS, max_bytes=_MAX_METRICS_BYTES):
        if line.endswith(b"\n") and (row := parse_row(line, place=place))["step"] <= up_to_step:
            yield row


def line_of(row: Mapping[str, Any]) -> str:
    """Return ``row`` as a line of ``metrics.jsonl``."""
    return f"{json.dumps(row)}\n"


def _strict(values: Mapping[str, object]) -> dict[str, object]:
    # JSON has no NaN: Python would write one, and other readers would fail at it.
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
