"""Run one training job, or a sweep of them with -m, from the configs in conf/."""

from mobile_vla.interruption import begin, quiet
from mobile_vla.ranks import check_alone

if __name__ == "__main__":  # first of all: the other imports take a second
    check_alone()
    begin()

import hydra
from omegaconf import DictConfig, OmegaConf

from mobile_vla.study import naming

# conf/config.yaml names folders by them.
OmegaConf.register_new_resolver("if_given", lambda value, then, otherwise: otherwise if value is None else then)
OmegaConf.register_new_resolver("sweep_folder", naming.sweep_folder)
OmegaConf.register_new_resolver("job_digest", naming.job_digest)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    """Train and return the final ``val/rmse``; ``inner/rmse`` where ``dataset.inner_fraction`` holds episodes out."""
    from mobile_vla.job import run_job  # here, so that --help and --cfg do not wait for torch

    return run_job(cfg)


if __name__ == "__main__":
    with quiet():
        main()
