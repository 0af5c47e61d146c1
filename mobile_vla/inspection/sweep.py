"""A first comparison as a sweep: its samplers are chosen on the data, and its time is printed before its first job."""

from __future__ import annotations

from functools import cache
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

_GROUPS = ("seed", "dataset", "model", "trainer", "evaluation")


def list_samplers(cfg: DictConfig) -> str:
    """Return the samplers of a first comparison on the data of ``cfg``, the baseline first, joined by commas.

    Prints, once, what each is tried for, and why others are left out. The data are read, but no pixels.
    """
    # Hydra resolves the value each time it reads it.
    return _list_samplers(OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, list(_GROUPS)), resolve=True))


@cache
def _list_samplers(config: str) -> str:
    from mobile_vla.inspection.first_comparison import BASELINE, open_for_report, samplers_worth_trying

    cfg = OmegaConf.create(config)
    assert isinstance(cfg, DictConfig)
    _, _, data = open_for_report(cfg)
    worth = samplers_worth_trying(data, cfg)
    print("A first comparison on this data")
    for name, question in worth.questions.items():
        print(f"  {name}: {question}")
    for name, reason in worth.left_out.items():
        print(f"  not {name}: it {reason}")
    return ",".join([BASELINE, *worth.questions])


class EstimateAtStart(Callback):
    """A Hydra callback that prints how long a multirun will take, before its first job."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Measure the time of a run and print that of all jobs of the sweep."""
        from mobile_vla.inspection.first_comparison import estimate_time, open_for_report
        from mobile_vla.study.plan import plan_jobs

        jobs = plan_jobs(config)
        if not jobs:
            return
        cfg = jobs[0].config
        dataset, scan, data = open_for_report(cfg)
        estimate = estimate_time(cfg, dataset, scan, data)
        print(
            f"{len(jobs)} runs" if estimate is None else f"{len(jobs)} runs: {estimate.sentence(len(jobs))}", flush=True
        )
