"""Write everything a comparison needs of one run into its folder; these files are the truth that W&B mirrors."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mobile_vla.disk import write_atomically
from mobile_vla.disk_sync import sync_file
from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import inside, lines_of, parse_json, parse_row

_TRACEBACK = "traceback.txt"
_SAID = ("summary.json", "manifest.json", "config.yaml", "split.json", "metrics.jsonl", _TRACEBACK)
"""What every call says of the run anew."""

_MAX_ROWS, _MAX_METRICS_BYTES = 5_000_000, 2 * 2**30
"""Of a log that a run goes on with: an evaluation is a row of 3.5 kB, any other one of 0.6 kB."""

_ENDED_WELL = ("done", "stopped")


class RunFolder:
    """One run on disk: config, manifest, split, metrics, summary and ``checkpoints/``.

    ``learn`` collects what the summary will say, whether the run ends well or not. Nothing is written before ``begin``.
    ``status`` is what the summary says by now; ``has_rows`` whether ``metrics.jsonl`` has a row of this attempt.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, object] = {}
        self.status: str | None = None
        self.has_rows = False
        self._before: dict[str, bytes] = {}
        path.mkdir(parents=True, exist_ok=True)

    def begin(self, manifest: Mapping[str, object], *, goes_on: bool = False) -> None:
        """Write the manifest and a summary that says ``running``; what an earlier failure left here goes.

        Where a run ``goes_on`` that an earlier call ended, what that one said is kept until this one has logged a row.
        """
        if goes_on:
            self._before = {name: path.read_bytes() for name in _SAID if (path := self.path / name).is_file()}
        self.write_manifest(manifest)
        (self.path / _TRACEBACK).unlink(missing_ok=True)
        self.known = {key: manifest[key] for key in ("sampler", "seed", "study", "commit")}
        self.learn({"steps": 0, "samples_seen": 0, "wall_s": 0.0})
        self.write_summary("running")

    def learn(self, facts: Mapping[str, object]) -> None:
        """Take up ``facts`` for the summary; later ones replace earlier ones."""
        self.known |= facts

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    def start_metrics(self, *, history: Sequence[str]) -> None:
        """Begin ``metrics.jsonl`` with the lines ``history``: none, or the rows of the run that is resumed."""
        write_atomically(self.path / "metrics.jsonl", "".join(history))
        self.has_rows = bool(history)

    def log(self, row: Mapping[str, float | int]) -> None:
        """Append one flat row; it must hold ``step`` and ``samples_seen``."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(f"{json.dumps(_strict(row), allow_nan=False)}\n")
        self.has_rows = True
        self._before = {}

    def sync_metrics(self) -> None:
        """Return once all logged rows are on the disk: no checkpoint may outlive the rows before it."""
        sync_file(self.path / "metrics.jsonl")

    def write_manifest(self, manifest: Mapping[str, object]) -> None:
        """Write what ran: choices, overrides, commit, versions."""
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=1) + "\n")

    def write_summary(self, status: str) -> None:
        """Write what is known as the flat ``summary.json``; a number that is missing or not finite is null."""
        self.status = status
        summary = _strict({**self.known, "status": status})
        write_atomically(self.path / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")

    def stop(self, by: str) -> None:
        """Record that the run was stopped ``by`` a signal or a limit; where and when as ``fail`` does."""
        if self.status != "running" or self._had_ended_well():
            return
        self.learn({"stopped_by": by})
        self.write_summary("stopped")

    def fail(self, error: BaseException) -> None:
        """Record that the run failed: ``traceback.txt``, and a summary of what is known with one line of ``error``.

        Before ``begin``, and once the run's end was recorded, nothing is written: the error was not the run's. Where a
        run was to go on and logged nothing, the folder says again what it said before; that the run failed only if it
        had not ended well then.
        """
        if self.status != "running" or self._had_ended_well():
            return
        (self.path / _TRACEBACK).write_text("".join(traceback.format_exception(error)))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(error, UserError):
            reason = f"{type(error).__name__}: {reason}"
        self.learn({"error": reason})
        self.write_summary("failed")

    def _had_ended_well(self) -> bool:
        """Write again what the folder said before ``begin`` if nothing was logged since; True where that stands."""
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
    """Yield the rows of ``metrics.jsonl`` with a step of at most ``up_to_step``; a line that a kill tore is none.

    ``UserError`` where there is no such file, or another line is no row.
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
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
