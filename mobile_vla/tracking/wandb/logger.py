"""The logger for Weights & Biases, written so that W&B can neither stop nor delay a run.

The local files are the reference and always complete, even if rows are missing on W&B. Everything that needs a server
or wandb's service process may fail; the run then continues with a warning.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mobile_vla.errors import ConfigError
from mobile_vla.extras import require
from mobile_vla.installation import PROGRAM
from mobile_vla.tracking.contract import Loggers, OpenLogger, RunIdentity
from mobile_vla.tracking.wandb.confirmation import Address
from mobile_vla.tracking.wandb.login import has_key, quiet_settings
from mobile_vla.tracking.wandb.mirror import UPLOAD_SHARE, OpenWandb
from mobile_vla.tracking.wandb.recordings import recordings_of
from mobile_vla.tracking.wandb.time_limit import TimeLimit

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
class WandbLogger:
    """A logger that mirrors runs to W&B: group is the study, job type the sampler, name the sampler and seed.

    The ``mode`` ``auto`` follows WANDB_MODE; if that is not set, it is online if a key is configured and offline if
    not. There is never a prompt: without a key ``online`` becomes offline with a warning, and so it does if the server
    cannot be reached within ``init_timeout_s`` or refuses the run. At the end of a run, uploading and asking W&B which
    rows it has may take ``finish_timeout_s``, and 2 s more if wandb's service process hangs. Rows that are not
    confirmed by then are reported, and stay in ``folder/wandb`` for ``mobile_vla sync``.
    """

    project: str
    entity: str | None
    mode: Literal["auto", "online", "offline"]
    init_timeout_s: float
    finish_timeout_s: float

    def __post_init__(self) -> None:
        require("wandb", asked_by="logger=wandb")
        if self.mode not in ("auto", "online", "offline"):
            raise ConfigError(f"logger.wandb.mode={self.mode!r}: expected auto, online or offline")
        for key in ("init_timeout_s", "finish_timeout_s"):
            if not getattr(self, key) > 0:
                raise ConfigError(
                    f"logger.wandb.{key}={getattr(self, key)}: expected seconds above 0 (0 would wait forever)"
                )

    @contextmanager
    def open(
        self, identity: RunIdentity, *, config: Mapping[str, object], folder: Path, resume: bool
    ) -> Iterator[OpenLogger]:
        """Mirror one run, below ``folder/wandb``; see ``Logger.open``."""
        # wandb sends error reports about itself when the process ends; if no server answers, that would take 20 s.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        mode = self._choose_mode()
        if mode == "disabled":
            with Loggers(loggers=()).open(identity, config=config, folder=folder, resume=resume) as nothing:
                yield nothing
            return
        where = _recordings_folder(folder, identity.run_id) if resume else folder
        mirror = OpenWandb(
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
        """Return the mode: from the config, otherwise from WANDB_MODE, otherwise online if there is a key."""
        asked = self.mode if self.mode != "auto" else os.environ.get("WANDB_MODE") or "auto"
        if asked == "auto":
            return "online" if has_key(insist=False) else "offline"
        if asked not in _ENVIRONMENT_MODES:
            raise ConfigError(f"WANDB_MODE={asked!r}: expected one of {', '.join(_ENVIRONMENT_MODES)}, or unset it")
        mode = _ENVIRONMENT_MODES[asked]
        if mode == "online" and not has_key(insist=True):
            _LOG.warning(
                "W&B was asked to be online, but no usable key is configured: recording offline. "
                f"Run `wandb login` or set WANDB_API_KEY; `{PROGRAM} sync FOLDER` uploads this run later"
            )
            return "offline"
        return mode

    def _attempts(
        self, mode: Mode, identity: RunIdentity, *, config: Mapping[str, object], folder: Path, resume: bool
    ) -> Iterator[tuple[Mode, Callable[[], wandb.Run]]]:
        """Yield the functions that start the wandb run: in ``mode``, then offline with the same id."""
        import wandb

        settings = quiet_settings()
        settings.init_timeout = self.init_timeout_s
        settings.finish_timeout = self.finish_timeout_s * UPLOAD_SHARE
        settings.finish_timeout_raises = True
        settings.x_transaction_log_flush_interval = 0.2  # s; a killed service loses the rows since the last flush

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
            # Plots over the training step: a resumed run continues to count it, but not wandb's own row number.
            run.define_metric("*", step_metric="step")
            return run

        for attempt in (mode, "offline"):
            yield attempt, partial(start, attempt)


def _recordings_folder(folder: Path, run_id: str) -> Path:
    """Return the folder for the recordings of a resumed run: the sweep's if it was a job of one, otherwise its own."""
    return folder.parent if recordings_of(run_id, folder.parent) else folder
