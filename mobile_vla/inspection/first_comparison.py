"""A first comparison on a data set: the samplers that can show something on it, and its seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omegaconf import DictConfig

from mobile_vla.data.dataset import Dataset, OpenDataset, Scan
from mobile_vla.installation import CONF
from mobile_vla.run.build import build_dataset
from mobile_vla.sampler_report.shipped import reasons_against
from mobile_vla.streams import Stream
from mobile_vla.untrusted.yaml_file import read_yaml

BASELINE = "shuffled"

CANDIDATES = {
    "sequential": "does the recorded order harm, in which many loaders read?",
    "random_temporal": "does it matter that long episodes have more windows?",
    "stratified": "does it help to draw all scenarios equally often?",
    "action_balanced": "does it help to draw rare actions more often?",
    "hard_negative": "does it help to draw what the policy gets wrong?",
}
"""Samplers that a first comparison tries, where they can differ from the baseline: the question of each."""


@dataclass(frozen=True, kw_only=True)
class WorthTrying:
    """The samplers of a first comparison with their questions, and why each of the other candidates is left out."""

    questions: Mapping[str, str]
    left_out: Mapping[str, str]


def samplers_worth_trying(data: OpenDataset, cfg: DictConfig) -> WorthTrying:
    """Return the candidates that can differ from the baseline on ``data``."""
    against = reasons_against(data.readers["train"], trainer=cfg.trainer, stream=Stream(cfg.seed, "sampler"))
    return WorthTrying(
        questions={name: question for name, question in CANDIDATES.items() if name not in against},
        left_out={name: against[name] for name in CANDIDATES if name in against},
    )


def num_seeds() -> int:
    """Return the number of seeds of a first comparison, as conf/experiment/my_data.yaml sweeps them."""
    experiment = read_yaml(CONF / "experiment" / "my_data.yaml")
    return len(str(experiment["hydra"]["sweeper"]["params"]["seed"]).split(","))


def open_for_report(cfg: DictConfig) -> tuple[Dataset, Scan, OpenDataset]:
    """Return the data of ``cfg`` without pixels: the data set's options, what was read, and the open data set."""
    dataset = build_dataset(cfg)
    scan = dataset.scan()
    return dataset, scan, dataset.open(scan, with_pixels=False)
