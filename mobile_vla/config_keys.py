"""Know which keys of the config decide what a run trains, and which only how it is logged, measured or taken up."""

from __future__ import annotations

from collections.abc import Collection

BUDGET = ("trainer.steps", "trainer.epochs", "trainer.batch_size")
"""Say how much is trained: runs that differ in them are not ranked together."""

OF_THE_CALL = ("logger", "resume", "trust", "trainer.stop_at_step", "trainer.keep")
"""Say where the records of one call go, how many stay, how far it takes a run, whom it trusts: not what it finds.

What may round differently or be logged elsewhere in the curves (``trainer.device``, ``trainer.log_every``) is not here.
"""

_OF_THE_MEASUREMENT = ("study", "evaluation", "closed_loop")
_EXECUTION = ("closed_loop.execution", "closed_loop/execution")
"""How a policy's predictions are carried out is a treatment of its own."""


def key_of(override: str) -> str:
    """Return the config key or group that an ``override`` of the command line sets."""
    return override.lstrip("+~").split("=", 1)[0]


def is_within(key: str, keys: Collection[str]) -> bool:
    """Whether ``key`` is one of ``keys`` or lies below one."""
    return any(key == outer or key.startswith((f"{outer}.", f"{outer}/", f"{outer}@")) for outer in keys)


def trains_nothing(key: str) -> bool:
    """Whether ``key`` changes no trained weight: it says how a run is logged, measured, asked about or taken up."""
    return is_within(key, OF_THE_CALL) or (is_within(key, _OF_THE_MEASUREMENT) and not is_within(key, _EXECUTION))
