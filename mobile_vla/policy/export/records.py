"""The files of a run from which the model card of its checkpoint is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobile_vla.errors import UserError
from mobile_vla.untrusted.files import inside, read_json
from mobile_vla.untrusted.yaml_file import read_yaml


@dataclass(frozen=True, kw_only=True)
class Records:
    """The files of a run that describe a checkpoint; a missing file is an empty mapping."""

    manifest: Mapping[str, Any]
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    split: Mapping[str, Any]
    training: Mapping[str, Any]

    @classmethod
    def of(cls, checkpoint: Path) -> Records:
        """Read the files in ``checkpoint`` and in the run folder that contains it."""
        folder = checkpoint.resolve()
        run = folder.parent.parent if folder.parent.name == "checkpoints" else folder
        return cls(
            manifest=_read(run / "manifest.json"),
            summary=_read(run / "summary.json"),
            config=_read(run / "config.yaml"),
            split=_read(run / "split.json"),
            training=_read(checkpoint / "training.json"),
        )

    @property
    def step(self) -> int | None:
        """Return the number of steps that the checkpoint was trained."""
        return self.training.get("step")

    @property
    def offline(self) -> Mapping[str, float]:
        """Return the metrics on recorded episodes; empty unless they were measured with this checkpoint's weights."""
        return self.training["latest"] if self.training and self.training["evaluated_at"] == self.step else {}

    @property
    def at_end(self) -> Mapping[str, Any]:
        """Return the measurements at the run's end; empty unless the run ended with this checkpoint's weights."""
        is_end = self.summary.get("status") == "done" and self.summary.get("steps") == self.step
        return self.summary if is_end else {}


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    # ``inside`` refuses a link that leads out of the folder: a run may come from somebody else.
    found = (
        read_yaml(inside(path.parent, path.name))
        if path.suffix == ".yaml"
        else read_json(inside(path.parent, path.name))
    )
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds a {type(found).__name__}, not an object; the model card is written from it")
    return found
