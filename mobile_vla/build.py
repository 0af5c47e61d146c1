"""Turn a checked config into typed parts: the one caller of instantiate."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mobile_vla.augmentation.pipeline import Pipeline
from mobile_vla.closed_loop.evaluation import ClosedLoop
from mobile_vla.closed_loop.taught import TaughtScenarios
from mobile_vla.data.batches import WindowReader
from mobile_vla.data.dataset import Dataset, OpenDataset
from mobile_vla.errors import ConfigError
from mobile_vla.evaluation.offline import Evaluation
from mobile_vla.policy.model import Model
from mobile_vla.sampling.contract import ActionChunks, Sampler
from mobile_vla.streams import Stream
from mobile_vla.tracking.wandb_mirror import Logger
from mobile_vla.training.frozen_features import check_variants
from mobile_vla.training.options import Trainer

if TYPE_CHECKING:
    from mobile_vla.policy.estimate.step import Estimate

PRETRAINED_BACKBONE = "mobile_vla.policy.backbones.vlm.VlmBackbone"


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything a run works with, built and checked.

    ``config`` is the resolved config as plain containers; ``closed_loop`` is None where nothing is driven.
    """

    config: dict[str, Any]
    dataset: Dataset
    data: OpenDataset
    trainer: Trainer
    num_steps: int
    sampler: Sampler
    augment: Pipeline
    model: Model
    noise: Stream
    evaluation: Evaluation
    closed_loop: ClosedLoop | None
    logger: Logger


def build_dataset(cfg: DictConfig) -> Dataset:
    """Return the data set's options as an object; nothing is read yet."""
    return _instantiate(cfg.dataset)


def build_run(cfg: DictConfig, *, on_estimate: Callable[[Estimate], None] | None = None) -> Run:
    """Read the data and build all parts of a checked config, each from its own random stream of ``seed``.

    ``on_estimate`` is told what a pretrained backbone will need before its weights are loaded.
    """
    config = OmegaConf.to_container(cfg, resolve=True)
    trainer, dataset = _instantiate(cfg.trainer), build_dataset(cfg)
    # Before anything computes: the number of threads decides how sums are rounded.
    torch.set_num_threads(trainer.num_threads)
    # Where a GPU has no deterministic kernel it warns and goes on.
    torch.use_deterministic_algorithms(True, warn_only=True)
    closed_loop = build_closed_loop(cfg.closed_loop)
    data = dataset.open()
    if dataset.world is None or not closed_loop.suites:
        closed_loop = None
    if closed_loop is not None:
        closed_loop.check(
            TaughtScenarios.of(data), action_names=dataset.actions, fwd_pred_next_n=dataset.fwd_pred_next_n
        )
    windows = data.windows["train"]
    augment = _instantiate(cfg.augmentation, stream=Stream(cfg.seed, "augmentation"))
    estimate = _estimate(cfg, data, trainer)
    if estimate is not None and on_estimate is not None:
        on_estimate(estimate)
    model = _build_model(cfg, data)
    check_variants(model, augment)
    return Run(
        config=typing.cast(dict[str, Any], config),
        dataset=dataset,
        data=data,
        trainer=trainer,
        num_steps=trainer.num_steps(len(windows)),
        sampler=build_sampler(
            cfg.sampler, data.readers["train"], batch_size=trainer.batch_size, stream=Stream(cfg.seed, "sampler")
        ),
        augment=augment,
        model=model,
        noise=Stream(cfg.seed, "noise"),
        evaluation=_instantiate(cfg.evaluation),
        closed_loop=closed_loop,
        logger=_instantiate(cfg.logger),
    )


def build_closed_loop(node: DictConfig) -> ClosedLoop:
    """Return what is driven, and how, of one option of the group."""
    return _instantiate(node)


def build_sampler(node: DictConfig, reader: WindowReader, *, batch_size: int, stream: Stream) -> Sampler:
    """Return the sampler of one option of the group over the windows of ``reader``.

    It sees their table; their actions as well if it has an argument ``chunks``.
    """
    with _plain_errors():
        factory = _with_chunks(instantiate(node, _convert_="all", _partial_=True), reader.chunks)
        return factory(windows=reader.windows, batch_size=batch_size, stream=stream)


def _with_chunks(value: Any, chunks: ActionChunks) -> Any:
    """Give ``chunks`` to every factory in ``value`` that takes them: samplers may hold others."""
    if isinstance(value, Mapping):
        return {key: _with_chunks(entry, chunks) for key, entry in value.items()}
    if not isinstance(value, partial):
        return value
    takes_chunks = "chunks" in inspect.signature(value.func).parameters
    return partial(value.func, **_with_chunks(value.keywords, chunks), **({"chunks": chunks} if takes_chunks else {}))


def _estimate(cfg: DictConfig, data: OpenDataset, trainer: Trainer) -> Estimate | None:
    """Say what a training step will need, before any weight is loaded; ``ConfigError`` where it cannot fit."""
    if cfg.model.backbone._target_ != PRETRAINED_BACKBONE:
        return None
    # Here, as transformers and peft take seconds to import.
    from mobile_vla.policy.estimate.device import available_bytes
    from mobile_vla.policy.estimate.fit import check_fits
    from mobile_vla.policy.estimate.step import BackboneOptions, Workload, estimate_backbone

    options = BackboneOptions(**instantiate(cfg.model.backbone, _convert_="all").keywords)
    workload = Workload(
        batch_size=trainer.batch_size,
        micro_batch_size=trainer.micro_batch_size,
        window_size=cfg.dataset.window_size,
        image_size=data.image.size,
        instructions=sorted({episode.instruction for episode in data.episodes.values()}),
        precision=trainer.precision,
        optimizer=trainer.optimizer,
        device_type=trainer.torch_device().type,
    )
    if options.dtype == "fp16" and options.tuning.learns and trainer.precision != "fp16":
        raise ConfigError(
            "model.backbone.dtype=fp16: its gradients vanish without a scaled loss. Use trainer.precision=fp16 with "
            "it, or model.backbone.dtype=bf16."
        )
    estimate = estimate_backbone(options, workload)
    check_fits(estimate, available_bytes(trainer.torch_device()))
    return estimate


def _build_model(cfg: DictConfig, data: OpenDataset) -> Model:
    """Return the model, initialised from ``seed`` alone, its statistics taken from the train episodes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Stream(cfg.seed, "init").integer(0))
        model: Model = _instantiate(
            cfg.model, fwd_pred_next_n=cfg.dataset.fwd_pred_next_n, num_actions=len(data.action_names)
        )
    model.fit(np.concatenate([data.episodes[name].actions_of(data.action_names) for name in data.split.train]))
    return model


def _instantiate(node: DictConfig, **given: object) -> Any:
    with _plain_errors():
        # In two steps, because instantiate would turn the dataclasses among ``given`` into configs.
        return instantiate(node, _convert_="all", _partial_=True)(**given)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Let out as ``ConfigError`` what a class says of its options: Hydra's wrapping of it is not for the user."""
    try:
        yield
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise ConfigError(str(error.__cause__)) from error
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
