"""Mirror a run's metrics to Weights & Biases in such a way that W&B can neither stop nor hold up the run.

The local files are the truth; what is missing on W&B is missing there alone. Everything that needs a server or wandb's
service process may fail, and then the run goes on with a warning.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from mobile_vla.errors import ConfigError
from mobile_vla.tracking.wandb_login import first_line, has_key, quiet_settings

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
    ``init_timeout_s`` or turns us away. At the end of a run uploading may take ``finish_timeout_s``; what is left then
    stays in ``folder/wandb`` for ``wandb sync --include-online``.
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
        run = None if mode == "disabled" else self._start(mode, identity, config=config, folder=folder, resume=resume)
        if run is None:
            yield LocalMirror()
            return
        mirror = _WandbMirror(run)
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

    def _start(
        self,
        mode: Mode,
        identity: RunIdentity,
        *,
        config: Mapping[str, object],
        folder: Path,
        resume: bool,
    ) -> wandb.Run | None:
        """Start the wandb run in ``mode``, else offline under the same id, else not at all."""
        import wandb
        from wandb.errors import UsageError

        settings = quiet_settings()
        settings.init_timeout = self.init_timeout_s
        settings.finish_timeout = self.finish_timeout_s
        attempts: tuple[tuple[Mode, str], ...] = (
            (mode, "trying offline"),
            ("offline", "W&B gets nothing of this run"),
        )
        for attempt, consequence in attempts:
            try:
                run = wandb.init(
                    project=self.project,
                    entity=self.entity,
                    group=identity.study,
                    job_type=identity.sampler,
                    name=identity.name,
                    id=identity.run_id,
                    config=dict(config),
                    dir=_recordings(folder, identity.run_id) if resume else folder,
                    mode=attempt,
                    resume="allow" if resume else None,
                    reinit="finish_previous",
                    settings=settings,
                )
            except UsageError as error:
                raise ConfigError(f"logger: W&B does not accept this run: {error}") from error
            except Exception as error:  # wandb's own, its service's private ones, the network's: none may stop the run
                _LOG.warning("W&B could not start %s (%s): %s", attempt, first_line(error), consequence)
                _disconnect()
            else:
                # Every metric over our own step, which a resumed run goes on counting and wandb's row number does not.
                run.define_metric("*", step_metric="step")
                return run
        return None


class _WandbMirror:
    """Pass rows on to one wandb run until wandb's service process is lost."""

    def __init__(self, run: wandb.Run) -> None:
        self._run = run
        self._is_lost = False
        self.url = None if run.offline else run.url

    def log(self, row: Mapping[str, float | int]) -> None:
        self._attempt(lambda: self._run.log(dict(row)))

    def log_videos(self, videos: Mapping[str, Path]) -> None:
        import wandb

        if videos:
            self._attempt(
                lambda: self._run.log(
                    {f"videos/{name}": wandb.Video(str(path), caption=path.stem) for name, path in videos.items()}
                )
            )

    def finish(self, summary: Mapping[str, object]) -> None:
        self._attempt(lambda: self._run.summary.update(dict(summary)))

    def close(self, *, exit_code: int) -> None:
        # Not `with run:`, which prints the traceback a second time. A lost run is ended too: as long as wandb has it,
        # it lets no other one of this process log in.
        try:
            self._run.finish(exit_code=exit_code)
        except Exception as error:  # as in _start
            self._lose(error)
        if self._is_lost:
            _disconnect()

    def _attempt(self, action: Callable[[], object]) -> None:
        if self._is_lost:
            return
        try:
            action()
        except Exception as error:  # as in _start
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if not self._is_lost:
            self._is_lost = True
            _LOG.warning("W&B has stopped recording this run (%s); the local files go on", first_line(error))


def _recordings(folder: Path, run_id: str) -> Path:
    """Return where to record a run that goes on: beside what it recorded as a job of a sweep, else in its folder."""
    return folder.parent if any(folder.parent.glob(f"wandb/*run-*-{run_id}")) else folder


def _disconnect() -> None:
    """End this process's use of wandb, so that the next start is a fresh one."""
    import wandb

    # A service process that is gone cannot be told goodbye, in whatever way wandb notices.
    with contextlib.suppress(Exception):
        wandb.teardown()
