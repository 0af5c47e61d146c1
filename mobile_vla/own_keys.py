"""The parts of the config that take keys of the user's own on the command line, without a ``+``.

Hydra accepts only keys that the config has, and for an unknown one asks for a ``+``. The tables here have no fixed
keys: ``dataset.layout.images.front=obs/front`` names a camera. A node that says so cannot be written in YAML (Hydra 1.3
reads it from its store of configs alone), so an option with such a table begins its list of defaults with ``own_keys``.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

_TABLES = {"dataset": ("grammars", "signals"), "dataset/layout": ("images", "names", "signals")}
"""The tables of each config group."""


def register_own_keys() -> None:
    """Put the tables into Hydra's store of configs, before a config is composed; a second call changes nothing."""
    for group, names in _TABLES.items():
        tables = {name: DictConfig({}, flags={"struct": False}) for name in names}
        ConfigStore.instance().store(group=group, name="own_keys", node=OmegaConf.create(tables))
