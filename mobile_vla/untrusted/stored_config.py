"""Safe reading of the config of a run, which another person may have written.

Interpolations are not resolved, and the targets that the config names are checked.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from mobile_vla.errors import UserError
from mobile_vla.untrusted.containers import values_in
from mobile_vla.untrusted.files import inside
from mobile_vla.untrusted.targets import check_targets
from mobile_vla.untrusted.yaml_file import checked_text

CONFIG_FILE = "config.yaml"

_NAMING_FILES = ("file", "weights", "mjcf")
"""Option names, in any group, whose value is a file other than the data: window scores, pretrained weights, a world."""


def read_stored_config(run: Path) -> DictConfig:
    """Return the config in the run folder ``run`` as it is written; its values may be shown but not instantiated.

    Raises ``UserError``, which names file and line, where it is not a config, or where it contains an interpolation.
    """
    return config_in(inside(run, CONFIG_FILE))


def load_stored_config(run: Path, *, trust: Collection[str]) -> DictConfig:
    """Return the config in the run folder ``run``, checked so that its objects may be instantiated.

    Every target in it is one of this package or in ``trust``. Its value ``trust`` is replaced by the argument, because
    the list in the file is that of another person. Raises ``UserError`` as ``read_stored_config`` does, and where a
    target is not trusted. Nothing is imported.
    """
    config = read_stored_config(run)
    check_targets(plain(config), place=run / CONFIG_FILE, trust=trust)
    config.trust = sorted(trust)
    return config


def say_data_read(run: Path, config: DictConfig, console: Console) -> None:
    """Print which files of this computer are read and written because the config of ``run`` names them."""
    data, cache = (OmegaConf.select(config, f"dataset.{key}") for key in ("path", "cache_dir"))
    text = f"{run / CONFIG_FILE} names the data, which are read now: {data} (cached in {cache})"
    for path, value in values_in(plain(config)):
        if isinstance(value, str) and path.rsplit(".", 1)[-1] in _NAMING_FILES:
            text += f"; {path}={value}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def config_in(path: Path) -> DictConfig:
    """Return the config in the YAML file ``path``; raise ``UserError`` as ``read_stored_config`` does."""
    text = checked_text(path, has_interpolations=False)
    try:
        config = OmegaConf.create(text)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a config ({' '.join(str(error).split())[:300]})") from error
    assert isinstance(config, DictConfig)
    return config


def plain(config: DictConfig) -> dict[str, Any]:
    """Return ``config`` as plain containers, without resolving interpolations."""
    found = OmegaConf.to_container(config)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}
