"""Mirror a run's metrics to Weights & Biases in such a way that W&B can neither stop nor hold up the run.

The local files are the truth; what is missing on W&B is missing there alone. Everything that needs a server or wandb's
service process may fail, and then the run goes on with a warning.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from mobile_vla.errors import ConfigError
from mobile_vla.tracking.confirmation import Address
from mobile_vla.tracking.recordings import recordings_of
from mobile_vla.tracking.time_limit import TimeLimit
from mobile_vla.tracking.wandb_login import has_key, quiet_settings
from mobile_vla.tracking.wandb_run import UPLOAD_SHARE, WandbMirror

if TYPE_CHECKING:
    import wandb

_LOG = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled"]

_ENVIRONMENT_MODES: Mapping[str, Mode] = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What a run is called: its study, its sampler's label, its seed, and an id.

    ``run_id`` is unique, stays the same when the run is resumed, and is safe in a file name (``shuffled-s0-1a2b3c4d``).
    """

    study: str
    sampler: str
    seed: int
    run_id: str

    @property
    def name(self) -> str:
        """Name the run for people: sampler and seed."""
        return f"{self.sampler}-s{self.seed}"


class Mirror(Protocol):
    """Where a run's metrics go besides its local files. No method raises on behalf of W&B."""

    @property
    def url(self) -> str | None:
        """Address of the run's page; None when there is none (offline, or no W&B at all)."""
        ...

    @property
    def unconfirmed_rows(self) -> int | None:
        """How many rows W&B was to have and has not confirmed; None before the end, and where it was to have none."""
        ...

    def log(self, row: Mapping[str, float | int]) -> None:
        """Send one line of ``metrics.jsonl``: ``step`` and the metrics of that step."""
        ...

    def log_videos(self, videos: Mapping[str, Path]) -> None:
        """Send animated images, each under its name."""
        ...

    def finish(self, summary: Mapping[str, object]) -> None:
        """Send the flat final values of ``summary.json``."""
        ...


class Logger(Protocol):
    """A choice of the ``logger`` config group."""

    def open(
        self, identity: RunIdentity, *, config: Mapping[str, object], folder: Path, resume: bool
    ) -> AbstractContextManager[Mirror]:
        """Mirror one run for the length of a ``with`` block; an exception that leaves the block marks the run failed.

        ``config`` holds plain containers, ``folder`` is where a mirror may keep its own files, and ``resume`` says
        that the same ``run_id`` was started before.
        """
        ...


class LocalMirror:
    """Send nothing anywhere."""

    url: str | None = None
    unconfirmed_rows: int | None = None

    def log(self, row: Mapping[str, float | int]) -> None:
        """Do nothing: the local files already hold the row."""

    def log_videos(self, videos: Mapping[str, Path]) -> None:
        """Do nothing: the videos are local files."""

    def finish(self, summary: Mapping[str, object]) -> None:
        """Do nothing: the local files already hold the summary."""


@dataclass(frozen=True, kw_only=True)
class LocalLogger:
    """Keep to the local files; wandb is never imported."""

    @contextmanager
    def open(
        self, identity: RunIdentity, *, config: Mapping[str, object], folder: Path, resume: bool
    ) -> Iterator[Mirror]:
        """Give a mirror that sends nothing."""
        yield LocalMirror()


@dataclass(frozen=True, kw_only=True)
class WandbLogger:
    """Mirror runs to W&B: group is the study, job type the sampler, name the sampler and seed.

    ``mode`` ``auto`` follows WANDB_MODE and, where that is unset, goes online exactly when a key is configured. Nothing
    ever prompts: ``online`` without a key is offline with a warning, and so is a server that cannot be reached within
    ``init_timeout_s`` or turns us away. At the end of a run uploading, and asking W&B what it has, may take
    ``finish_timeout_s``, and 2 s more where wandb's service process hangs; what is not confirmed then is said, and
    stays in ``folder/wandb`` for ``mobile_vla sync``.
    """

    project: str
    entity: str | None
    mode: Literal["auto", "online", "offline"]
    init_timeout_s: float
    finish_timeout_s: float

    def __post_init__(self) -> None:
        if self.mode not in ("auto", "online", "offline"):
            raise ConfigError(f"logger.mode={self.mode!r}: expected auto, online or offline")
        for key in ("init_timeout_s", "finish_timeout_s"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"logger.{key}={getattr(self, key)}: expected seconds above 0 (0 would wait forever)")

    @contextmanager
    def open(
        self, identity: RunIdentity, *, config: Mapping[str, object], folder: Path, resume: bool
    ) -> Iterator[Mirror]:
        """Mirror one run, below ``folder/wandb``; see `Logger.open`."""
        # Its error reports go out when the process ends, and a server that does not answer would hold that up for 20 s.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        mode = self._choose_mode()
        if mode == "disabled":
            yield LocalMirror()
            return
        where = _recordings_folder(folder, identity.run_id) if resume else folder
        mirror = WandbMirror(
            identity.run_id,
            where,
            finish_timeout_s=self.finish_timeout_s,
            is_online=mode == "online",
            goes_on=resume,
        )
        if mode == "online" and resume:
            address = Address(project=self.project, entity=self.entity, run_id=identity.run_id)
            mode = "online" if mirror.catch_up(address, TimeLimit(self.init_timeout_s)) else "offline"
        attempts = self._attempts(mode, identity, config=config, folder=where, resume=resume)
        mirror.start(attempts, timeout_s=self.init_timeout_s)
        exit_code = 1
        try:
            yield mirror
            exit_code = 0
        finally:
            mirror.close(exit_code=exit_code)

    def _choose_mode(self) -> Mode:
        """Decide between explicit config, then WANDB_MODE, then whether there is a key."""
        asked = self.mode if self.mode != "auto" else os.environ.get("WANDB_MODE") or "auto"
        if asked == "auto":
            return "online" if has_key(insist=False) else "offline"
        if asked not in _ENVIRONMENT_MODES:
            raise ConfigError(f"WANDB_MODE={asked!r}: expected one of {', '.join(_ENVIRONMENT_MODES)}, or unset it")
        mode = _ENVIRONMENT_MODES[asked]
        if mode == "online" and not has_key(insist=True):
            _LOG.warning(
                "W&B was asked to be online, but no usable key is configured: recording offline. "
                "Run `wandb login` or set WANDB_API_KEY; `python -m mobile_vla sync FOLDER` uploads this run later"
            )
            return "offline"
        return mode

    def _attempts(
        self, mode: Mode, identity: RunIdentity, *, config: Mapping[str, object], folder: Path, resume: bool
    ) -> Iterator[tuple[Mode, Callable[[], wandb.Run]]]:
        """Return what starts the wandb run: in ``mode``, else offline under the same id."""
        import wandb

        settings = quiet_settings()
        settings.init_timeout = self.init_timeout_s
        settings.finish_timeout = self.finish_timeout_s * UPLOAD_SHARE
        settings.finish_timeout_raises = True
        settings.x_transaction_log_flush_interval = 0.2  # s: rows that a killed service takes with it

        def start(attempt: Mode) -> wandb.Run:
            run = wandb.init(
                project=self.project,
                entity=self.entity,
                group=identity.study,
                job_type=identity.sampler,
                name=identity.name,
                id=identity.run_id,
                config=dict(config),
                dir=folder,
                mode=attempt,
                resume="allow" if resume else None,
                reinit="finish_previous",
                settings=settings,
            )
            # Every metric over our own step, which a resumed run goes on counting and wandb's row number does not.
            run.define_metric("*", step_metric="step")
            return run

        for attempt in (mode, "offline"):
            yield attempt, partial(start, attempt)


def _recordings_folder(folder: Path, run_id: str) -> Path:
    """Return where to record a run that goes on: beside what it recorded as a job of a sweep, else in its folder."""
    return folder.parent if recordings_of(run_id, folder.parent) else folder
