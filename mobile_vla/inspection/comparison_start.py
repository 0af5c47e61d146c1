"""The start of a first comparison as a sweep: its samplers are chosen on the data, and its time is printed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from mobile_vla.data.dataset import Dataset, OpenDataset, Scan
    from mobile_vla.study.plan import PlannedJob

_GROUPS = ("seed", "dataset", "model", "trainer", "evaluation")
_OF_THE_DATA = ("dataset", "model")
"""The groups on which the data depend: the model says the image size and the state."""


def list_samplers(cfg: DictConfig) -> str:
    """Return the samplers of a first comparison on the data of ``cfg``, the baseline first, joined by commas.

    Prints, once, what each is tried for, and why others are left out. The data are read, but no pixels.
    """
    # Hydra resolves the value each time it reads it.
    return _list_samplers(_text_of(cfg, _GROUPS))


@cache
def _list_samplers(config: str) -> str:
    from mobile_vla.inspection.first_comparison import BASELINE, samplers_worth_trying

    cfg = _config_of(config)
    _, _, data = _opened(_text_of(cfg, _OF_THE_DATA))
    worth = samplers_worth_trying(data, cfg)
    print("A first comparison on this data")
    for name, question in worth.questions.items():
        print(f"  {name}: {question}")
    for name, reason in worth.left_out.items():
        print(f"  not {name}: it {reason}")
    return ",".join([BASELINE, *worth.questions])


@cache
def _opened(config: str) -> tuple[Dataset, Scan, OpenDataset]:
    """Return the data of ``config`` without pixels; the samplers and the estimate of one sweep share them."""
    from mobile_vla.inspection.first_comparison import open_for_report

    return open_for_report(_config_of(config))


def _text_of(cfg: DictConfig, groups: Sequence[str]) -> str:
    return OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, list(groups)), resolve=True)


def _config_of(text: str) -> DictConfig:
    cfg = OmegaConf.create(text)
    assert isinstance(cfg, DictConfig)
    return cfg


def print_estimate(jobs: Sequence[PlannedJob]) -> None:
    """Measure the time of a run and print that of all ``jobs``, those of a sweep that are left to run."""
    from mobile_vla.inspection.time_estimate import estimate_time
    from mobile_vla.text import counted

    if not jobs:
        return
    cfg = jobs[0].config
    dataset, scan, data = _opened(_text_of(cfg, _OF_THE_DATA))
    estimate = estimate_time(cfg, dataset, scan, data)
    runs = counted(len(jobs), "run")
    print(runs if estimate is None else f"{runs}: {estimate.sentence(len(jobs))}", flush=True)
