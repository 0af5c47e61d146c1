"""Write everything a comparison needs of one run into its folder; these files are the truth that W&B mirrors."""

from __future__ import annotations

import json
import math
import os
import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mobile_vla.errors import UserError


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
        path.mkdir(parents=True, exist_ok=True)

    def begin(self, manifest: Mapping[str, object]) -> None:
        """Write the manifest and a summary that says ``running``; what an earlier failure left here goes."""
        self.write_manifest(manifest)
        (self.path / "traceback.txt").unlink(missing_ok=True)
        self.known = {key: manifest[key] for key in ("sampler", "seed", "study", "commit")}
        self.learn({"steps": 0, "samples_seen": 0, "wall_s": 0.0})
        self.write_summary("running")

    def learn(self, facts: Mapping[str, object]) -> None:
        """Take up ``facts`` for the summary; later ones replace earlier ones."""
        self.known |= facts

    @property
    def checkpoints(self) -> Path:
        """Where ``last`` and ``best`` are."""
        return self.path / "checkpoints"

    def copy_checkpoints(self, origin: Path) -> None:
        """Take over the checkpoints of the run that is resumed, where it has another folder."""
        if not self.path.samefile(origin):
            shutil.copytree(origin / "checkpoints", self.checkpoints)

    def start_metrics(self, *, history: list[dict[str, Any]]) -> None:
        """Begin ``metrics.jsonl`` with ``history``: nothing, or the rows of the run that is resumed."""
        write_atomically(self.path / "metrics.jsonl", "".join(f"{json.dumps(row)}\n" for row in history))
        self.has_rows = bool(history)

    def log(self, row: Mapping[str, float | int]) -> None:
        """Append one flat row; it must hold ``step`` and ``samples_seen``."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(f"{json.dumps(_strict(row), allow_nan=False)}\n")
        self.has_rows = True

    def write_manifest(self, manifest: Mapping[str, object]) -> None:
        """Write what ran: choices, overrides, commit, versions."""
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=1) + "\n")

    def write_summary(self, status: str) -> None:
        """Write what is known as the flat ``summary.json``; a number that is missing or not finite is null."""
        self.status = status
        summary = _strict({**self.known, "status": status})
        write_atomically(self.path / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")

    def stop(self, by: str) -> None:
        """Record that the run was stopped ``by`` a signal or a limit; as in ``fail``, only while it is running."""
        if self.status == "running":
            self.learn({"stopped_by": by})
            self.write_summary("stopped")

    def fail(self, error: BaseException) -> None:
        """Record that the run failed: ``traceback.txt``, and a summary of what is known with one line of ``error``.

        Before ``begin``, and once the run's end was recorded, nothing is written: the error was not the run's.
        """
        if self.status != "running":
            return
        (self.path / "traceback.txt").write_text("".join(traceback.format_exception(error)))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(error, UserError):
            reason = f"{type(error).__name__}: {reason}"
        self.learn({"error": reason})
        self.write_summary("failed")


def read_metrics(folder: Path, *, up_to_step: int) -> list[dict[str, Any]]:
    """Return the rows of ``metrics.jsonl`` with a step of at most ``up_to_step``; a line that a kill tore is none."""
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row for row in rows if row["step"] <= up_to_step]


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _strict(values: Mapping[str, object]) -> dict[str, object]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
