"""Groups of config keys: what changes a run's training, what is of its logging, measuring and resuming; own keys."""

from __future__ import annotations

from collections.abc import Collection

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

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


_TABLES = {"dataset": ("grammars", "signals"), "dataset/layout": ("images", "names", "signals")}
"""The tables of a config group whose keys are the user's own, such as ``dataset.layout.images.front=obs/front``."""


def register_own_keys() -> None:
    """Let the command line set new keys of these tables without a ``+``, in configs that are composed from now on.

    Hydra accepts only keys that the config has, unless the table's node says otherwise. That cannot be written in YAML:
    Hydra 1.3 takes such a node from its store alone. An option with such a table has that node first in its list of
    defaults. It is below ``hydra/``, because help lists the options of all other groups. A second call changes nothing.
    """
    for group, names in _TABLES.items():
        tables = {name: DictConfig({}, flags={"struct": False}) for name in names}
        ConfigStore.instance().store(group=f"hydra/own_keys/{group}", name="tables", node=DictConfig(tables))
