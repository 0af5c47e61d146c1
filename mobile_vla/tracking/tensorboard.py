"""Write a run's metrics as TensorBoard event files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mobile_vla.extras import require
from mobile_vla.tracking.contract import OpenLogger, RunIdentity

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

FOLDER = "tensorboard"
"""A folder in that of the sweep, so that ``tensorboard --logdir SWEEP/tensorboard`` shows all its runs together."""

_AFTER_TRAINING = ("closed_loop/", "shortcut/")
"""What is measured once, after the last row."""

_SECONDS_BETWEEN_WRITES = 10
"""A killed run loses at most the rows of this time; torch's default is 120 s."""


class OpenTensorBoard:
    """The event files of one run in ``folder``."""

    url: str | None = None
    unconfirmed_rows: int | None = None

    def __init__(self, folder: Path, *, config: Mapping[str, object]) -> None:
        self._folder, self._config = folder, config
        self._videos: Mapping[str, Path] = {}
        self._writer: SummaryWriter | None = None

    def log(self, row: Mapping[str, float | int]) -> None:
        """See ``OpenLogger``."""
        step = int(row["step"])
        # An earlier attempt may have logged these steps: TensorBoard hides its rows from the ``purge_step`` on.
        writer = self._writer or self._open(purge_step=step)
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, step)

    def log_videos(self, videos: Mapping[str, Path]) -> None:
        """See ``OpenLogger``; TensorBoard plays GIF files where it shows images."""
        self._videos = videos

    def finish(self, summary: Mapping[str, object]) -> None:
        """See ``OpenLogger``: log at the last step what was measured after it, which is in no row."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        step = summary["steps"]
        # A finished run that is measured again logs no row, and its earlier rows stay.
        writer = self._writer or self._open(purge_step=None)
        for name, value in summary.items():
            if name.startswith(_AFTER_TRAINING) and isinstance(value, (int, float)):
                writer.add_scalar(name, value, step)
        for name, path in self._videos.items():
            value = Summary.Value(tag=name, image=Summary.Image(encoded_image_string=path.read_bytes()))
            # Not with add_video, which would encode the frames again and needs moviepy for that.
            writer._get_file_writer().add_summary(Summary(value=[value]), step)

    def close(self) -> None:
        """Write the data that are still in memory."""
        if self._writer is not None:
            self._writer.close()

    def _open(self, *, purge_step: int | None) -> SummaryWriter:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=purge_step, flush_secs=_SECONDS_BETWEEN_WRITES)
        self._writer.add_text("config", f"```yaml\n{yaml.safe_dump(dict(self._config))}```", purge_step or 0)
        return self._writer


@dataclass(frozen=True, kw_only=True)
class TensorBoardLogger:
    """A logger that writes event files to ``tensorboard/`` in the folder of the sweep, or of a single run."""

    def __post_init__(self) -> None:
        require("tensorboard", asked_by="logger=tensorboard")

    @contextmanager
    def open(
        self, identity: RunIdentity, *, config: Mapping[str, object], folder: Path, resume: bool
    ) -> Iterator[OpenLogger]:
        """See ``Logger.open``."""
        before = folder.parent / FOLDER / identity.run_id  # of a job of a sweep that is resumed by itself
        where = before if resume and before.is_dir() else folder / FOLDER / identity.run_id
        opened = OpenTensorBoard(where, config=config)
        try:
            yield opened
        finally:
            opened.close()
