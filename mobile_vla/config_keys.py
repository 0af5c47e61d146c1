"""Groups of config keys: those that change what a run trains, and those for its logging, measuring and resuming."""

from __future__ import annotations

from collections.abc import Collection

BUDGET = ("trainer.steps", "trainer.epochs", "trainer.batch_size")
"""The keys of the training budget: runs that differ in them are not ranked together."""

OF_THE_CALL = ("logger", "resume", "trust", "trainer.stop_at_step", "trainer.keep")
"""Keys of a single call: its loggers, how many checkpoints stay, where it stops, which classes it trusts.

They do not change the results of a run. Keys that can change rounding or the logged steps (``trainer.device``,
``trainer.log_every``) are not included.
"""

_OF_THE_MEASUREMENT = ("study", "evaluation", "closed_loop")
_EXECUTION = ("closed_loop.execution", "closed_loop/execution")
"""The exception in ``closed_loop``: how predicted actions are executed can be a treatment that a study compares."""


def key_of(override: str) -> str:
    """Return the config key or group that an ``override`` on the command line sets."""
    return override.lstrip("+~").split("=", 1)[0]


def is_within(key: str, keys: Collection[str]) -> bool:
    """Return whether ``key`` is one of ``keys`` or below one of them."""
    return any(key == outer or key.startswith((f"{outer}.", f"{outer}/", f"{outer}@")) for outer in keys)


def trains_nothing(key: str) -> bool:
    """Return whether ``key`` changes no trained weight: it is only for logging, measuring, judging or resuming."""
    return is_within(key, OF_THE_CALL) or (is_within(key, _OF_THE_MEASUREMENT) and not is_within(key, _EXECUTION))
