"""Know whether W&B can be used from here, without prompting and without the network."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mobile_vla.errors import UserError

if TYPE_CHECKING:
    import wandb

_LOG = logging.getLogger(__name__)


def quiet_settings() -> wandb.Settings:
    """Keep wandb off the terminal, the repository and the machine's sensors."""
    import wandb

    return wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True, disable_code=True)


def has_key(*, insist: bool) -> bool:
    """Say whether wandb has a usable key; never prompts and needs no network.

    ``insist`` looks for the key even where the user's wandb settings say offline.
    """
    import wandb

    settings = quiet_settings()
    if insist:
        settings.mode = "online"
    try:
        wandb.setup(settings)
        return wandb.login(prompt=False, verify=False)
    except Exception as error:  # wandb raises its service's private errors too, and none of them may stop a run
        _LOG.warning("W&B could not log in (%s)", first_line(error))
        return False


def require_login(*, purpose: str) -> None:
    """Raise UserError that says what to do unless wandb has a usable key."""
    if not has_key(insist=True):
        raise UserError(
            f"cannot {purpose}: no usable W&B key is configured; expected one from `wandb login` or in WANDB_API_KEY. "
            "Set one (keys are at https://wandb.ai/authorize) and call this again."
        )


def first_line(error: Exception) -> str:
    """Return the first line of what ``error`` says, its type's name if it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
