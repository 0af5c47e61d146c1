"""Run one training job, or a sweep of them with -m, from the configs in conf/."""

import hydra
from omegaconf import DictConfig, OmegaConf

# conf/config.yaml needs it: a resumed run goes on in its own folder.
OmegaConf.register_new_resolver("if_given", lambda value, then, otherwise: otherwise if value is None else then)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    """Train and return the final ``val/rmse``."""
    from mobile_vla.job import run_job  # here, so that --help and --cfg do not wait for torch

    return run_job(cfg)


if __name__ == "__main__":
    main()
