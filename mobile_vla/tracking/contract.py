"""The interface of loggers, which copy the metrics of a run from its local files to one or several services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """The identity of a run: its study, its sampler's label, its seed, and an id.

    ``run_id`` is unique, stays the same when the run is resumed, and is safe in a file name (``shuffled-s0-1a2b3c4d``).
    """

    study: str
    sampler: str
    seed: int
    run_id: str

    @property
    def name(self) -> str:
        """The name shown to users: sampler and seed."""
        return f"{self.sampler}-s{self.seed}"


class OpenLogger(Protocol):
    """The open logger of one run. No method raises an error because a remote service failed."""

    @property
    def url(self) -> str | None:
        """The URL of the run's page; None if it has none."""
        ...

    @property
    def unconfirmed_rows(self) -> int | None:
        """Number of rows that the service has not confirmed; None before the end of the run, and without a service."""
        ...

    def log(self, row: Mapping[str, float | int]) -> None:
        """Log one line of ``metrics.jsonl``: ``step`` and the metrics of that step."""
        ...

    def log_videos(self, videos: Mapping[str, Path]) -> None:
        """Log animated GIF files by name."""
        ...

    def finish(self, summary: Mapping[str, object]) -> None:
        """Log the flat final values of ``summary.json``."""
        ...


class Logger(Protocol):
    """An option of the config group ``logger``."""

    def open(
        self, identity: RunIdentity, *, config: Mapping[str, object], folder: Path, resume: bool
    ) -> AbstractContextManager[OpenLogger]:
        """Return a context in which one run is logged; an exception raised in the context marks the run as failed.

        ``config`` is made of plain containers, ``folder`` is for a logger's own files, and ``resume`` is True if a run
        with the same ``run_id`` was started before.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Loggers:
    """Several loggers as one; without any, the run has only its local files, which are always written."""

    loggers: Sequence[Logger]

    @contextmanager
    def open(
        self, identity: RunIdentity, *, config: Mapping[str, object], folder: Path, resume: bool
    ) -> Iterator[OpenLogger]:
        """See ``Logger.open``: open all of them, and close them in the opposite order."""
        with ExitStack() as stack:
            opened = (logger.open(identity, config=config, folder=folder, resume=resume) for logger in self.loggers)
            yield _OpenLoggers([stack.enter_context(one) for one in opened])


class _OpenLoggers:
    """Several open loggers as one."""

    def __init__(self, opened: Sequence[OpenLogger]) -> None:
        self._opened = opened

    @property
    def url(self) -> str | None:
        return next((logger.url for logger in self._opened if logger.url is not None), None)

    @property
    def unconfirmed_rows(self) -> int | None:
        counts = [logger.unconfirmed_rows for logger in self._opened if logger.unconfirmed_rows is not None]
        return sum(counts) if counts else None

    def log(self, row: Mapping[str, float | int]) -> None:
        for logger in self._opened:
            logger.log(row)

    def log_videos(self, videos: Mapping[str, Path]) -> None:
        for logger in self._opened:
            logger.log_videos(videos)

    def finish(self, summary: Mapping[str, object]) -> None:
        for logger in self._opened:
            logger.finish(summary)
