"""Groups of config keys: those that change what a run trains, those for its logging, and tables with keys of the user's."""

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


_OWN_KEYS = {"dataset": ("grammars", "signals"), "dataset/layout": ("images", "names", "signals")}
"""The tables of each config group that take keys of the user's own."""


def register_own_keys() -> None:
    """Let the tables of ``_OWN_KEYS`` take any key on the command line, without a ``+``; may be called twice.

    Hydra accepts only keys that the config has: ``dataset.layout.images.front=obs/front`` would need a ``+``. A node
    that takes any key cannot be written in YAML (Hydra 1.3 reads it from its store of configs alone), so an option with
    such a table begins its list of defaults with ``own_keys``.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import DictConfig, OmegaConf

    for group, names in _OWN_KEYS.items():
        tables = {name: DictConfig({}, flags={"struct": False}) for name in names}
        ConfigStore.instance().store(group=group, name="own_keys", node=OmegaConf.create(tables))
