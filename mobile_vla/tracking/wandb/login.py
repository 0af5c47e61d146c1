"""Check whether wandb has a key, without a prompt and without the network."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mobile_vla.errors import UserError

if TYPE_CHECKING:
    import wandb

_LOG = logging.getLogger(__name__)


def quiet_settings() -> wandb.Settings:
    """Return settings with which wandb prints nothing and reads neither the repository nor the machine's load."""
    import wandb

    return wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True, disable_code=True)


def has_key(*, insist: bool) -> bool:
    """Return whether wandb has a usable key, without a prompt and without the network.

    With ``insist`` it looks for the key even if the user's wandb settings say offline.
    """
    import wandb

    settings = quiet_settings()
    if insist:
        settings.mode = "online"
    try:
        wandb.setup(settings)
        return wandb.login(prompt=False, verify=False)
    except Exception as error:  # also private errors of wandb's service: no error of wandb may stop a run
        _LOG.warning("W&B could not log in (%s)", first_line(error))
        return False


def require_login(*, purpose: str) -> None:
    """Raise ``UserError``, which says what to do, if wandb has no usable key."""
    if not has_key(insist=True):
        raise UserError(
            f"cannot {purpose}: no usable W&B key is configured; expected one from `wandb login` or in WANDB_API_KEY. "
            "Set one (keys are at https://wandb.ai/authorize) and call this again."
        )


def first_line(error: Exception) -> str:
    """Return the first line of the message of ``error``; the name of its type if the message is empty."""
    return next(iter(str(error).splitlines()), type(error).__name__)
