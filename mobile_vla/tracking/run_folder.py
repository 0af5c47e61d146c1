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
    """One run on disk: config, manifest, split, metrics, summary and ``checkpoints/``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

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
        (self.path / "traceback.txt").unlink(missing_ok=True)  # of an earlier try in this folder
        write_atomically(self.path / "metrics.jsonl", "".join(f"{json.dumps(row)}\n" for row in history))

    def log(self, row: Mapping[str, float | int]) -> None:
        """Append one flat row; it must hold ``step`` and ``samples_seen``."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(f"{json.dumps(_strict(row), allow_nan=False)}\n")

    def write_manifest(self, manifest: Mapping[str, object]) -> None:
        """Write what ran: choices, overrides, commit, versions."""
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=1) + "\n")

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Write the flat ``summary.json``; a number that is missing or not finite is null."""
        write_atomically(self.path / "summary.json", json.dumps(_strict(summary), indent=1, allow_nan=False) + "\n")

    def fail(self, error: BaseException, *, known: Mapping[str, object]) -> None:
        """Record that the run failed: ``traceback.txt``, and a summary of what is known with one line of ``error``."""
        (self.path / "traceback.txt").write_text("".join(traceback.format_exception(error)))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(error, UserError):
            reason = f"{type(error).__name__}: {reason}"
        self.write_summary({**known, "status": "failed", "error": reason})


def read_metrics(folder: Path, *, up_to_step: int) -> list[dict[str, Any]]:
    """Return the rows of ``metrics.jsonl`` with a step of at most ``up_to_step``; a line that a kill tore is none."""
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row for row in rows if row["step"] <= up_to_step]


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _strict(values: Mapping[str, object]) -> dict[str, object]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
