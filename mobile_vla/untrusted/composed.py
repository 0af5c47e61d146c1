"""Checks of the config that Hydra composed for a job, where it comes from a source that is not trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mobile_vla.config_keys import key_of
from mobile_vla.errors import ConfigError
from mobile_vla.installation import CONF, TRAIN
from mobile_vla.untrusted.files import inside
from mobile_vla.untrusted.stored_config import plain
from mobile_vla.untrusted.targets import check_targets


def check_folder(folder: Path) -> None:
    """Raise ``UserError`` where a link in the job's ``folder`` would redirect its log or records to another folder."""
    for path in folder.iterdir():
        if path.is_symlink():
            inside(folder, path.absolute())


def check_source(cfg: DictConfig, *, overrides: Sequence[str]) -> None:
    """Raise ``UserError`` where ``cfg`` comes from another folder than conf/ and names targets that are not trusted.

    ``run.py --config-path RUN/.hydra`` is Hydra's own way to run the config of a folder. Hydra reads its own settings
    in that folder before this check. Raises ``ConfigError`` where the override ``trust`` has no effect, because no
    stored config is read.
    """
    is_trust_given = any(key_of(override) == "trust" for override in overrides)
    runtime = HydraConfig.get().runtime
    sources = {source.provider: source.path for source in runtime.config_sources}
    if Path(sources["main"]).resolve() != CONF:
        # Only the override `trust` counts. The folder's own value of `trust` would let its author approve the targets.
        check_targets(plain(cfg), place=f"--config-path {sources['main']}", trust=cfg.trust if is_trust_given else ())
        if "sampler" not in runtime.choices:
            raise ConfigError(
                f"--config-path {sources['main']}: chooses no option of the config groups, as no stored config does. "
                f"To go on with a run: {TRAIN} resume=RUN"
            )
    elif is_trust_given and cfg.resume is None:
        raise ConfigError(
            f"trust={list(cfg.trust)}: has no effect, as no stored config is read; it goes with resume=FOLDER. What "
            "hydra.searchpath names is trusted already."
        )
