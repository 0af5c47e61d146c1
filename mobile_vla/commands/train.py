"""``train``: run one training job, or a sweep with -m; ``python run.py`` is the same."""

from __future__ import annotations

from collections.abc import Sequence

import hydra
from omegaconf import DictConfig, OmegaConf

from mobile_vla.config_keys import register_own_keys
from mobile_vla.extras import require
from mobile_vla.installation import CONF, PROGRAM, TRAIN
from mobile_vla.study import naming


def _samplers_worth_trying(*, _root_: DictConfig) -> str:
    """Return the samplers of a first comparison on the data of the config, as Hydra sweeps them: ``a,b,c``."""
    from mobile_vla.inspection.comparison_start import list_samplers

    return list_samplers(_root_)


register_own_keys()
# conf/config.yaml uses these in the names of run folders and sweep folders.
OmegaConf.register_new_resolver("if_given", lambda value, then, otherwise: otherwise if value is None else then)
OmegaConf.register_new_resolver("sweep_folder", naming.sweep_folder)
OmegaConf.register_new_resolver("job_digest", naming.job_digest)
OmegaConf.register_new_resolver("folder_name", naming.folder_name)
OmegaConf.register_new_resolver("samplers_worth_trying", _samplers_worth_trying)
# The help text in conf/config.yaml uses this one to show how commands are typed in this installation.
OmegaConf.register_new_resolver("typed", {"train": TRAIN, "other": PROGRAM}.__getitem__)


def check_sweeper(arguments: Sequence[str]) -> None:
    """Raise ``ConfigError`` where ``arguments`` ask for Optuna and it is not installed.

    Hydra would only say that it knows no such option of ``hydra/sweeper``.
    """
    named = [text.removeprefix("experiment=") for text in arguments if text.startswith("experiment=")]
    chosen = [path.read_text() for name in named if (path := CONF / "experiment" / f"{name}.yaml").is_file()]
    if "hydra/sweeper=optuna" in arguments or any("/hydra/sweeper: optuna" in text for text in chosen):
        require("hydra_plugins.hydra_optuna_sweeper", asked_by="hydra/sweeper=optuna")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> float:
    """Train and return the final ``val/rmse``; with ``dataset.inner_fraction`` the final ``inner/rmse``."""
    from mobile_vla.run.job import run_job  # here, so that --help and --cfg do not wait for torch

    return run_job(cfg)
