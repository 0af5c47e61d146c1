"""Build typed objects from a checked config; no other module calls ``instantiate``."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mobile_vla.augmentation.pipeline import Pipeline
from mobile_vla.closed_loop.evaluation import ClosedLoop
from mobile_vla.closed_loop.trained_scenarios import TrainedScenarios
from mobile_vla.data.batches import WindowReader
from mobile_vla.data.dataset import Dataset, OpenDataset
from mobile_vla.errors import ConfigError
from mobile_vla.evaluation.offline import Evaluation
from mobile_vla.features.readers import check_variants
from mobile_vla.policy.model import Model
from mobile_vla.sampling.contract import ActionChunks, Sampler, check_sampler
from mobile_vla.spec import Spec
from mobile_vla.streams import Stream
from mobile_vla.tracking.contract import Loggers
from mobile_vla.training.options import Trainer

if TYPE_CHECKING:
    from mobile_vla.policy.estimate.step import Estimate

PRETRAINED_BACKBONE = "mobile_vla.policy.backbones.vlm.VlmBackbone"


@dataclass(frozen=True, kw_only=True)
class Run:
    """All parts of a run, built and checked.

    ``config`` is the resolved config as plain containers; ``closed_loop`` is None if the run has no drives.
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
    logger: Loggers


def build_dataset(cfg: DictConfig) -> Dataset:
    """Return the data set's options as an object, state and image size made those of the model; no data are read."""
    state = cfg.model.state if isinstance(cfg.model.state, str) else list(cfg.model.state)
    dataset: Dataset = _instantiate(cfg.dataset, state=state)
    return replace(dataset, image_size=_image_side(cfg.model.backbone)) if dataset.image_size == "auto" else dataset


def _image_side(backbone: DictConfig) -> int:
    if backbone._target_ != PRETRAINED_BACKBONE:
        with _plain_errors():
            factory = instantiate(backbone, _convert_="all")
        side = getattr(getattr(factory, "func", factory), "image_side", None)
        if not isinstance(side, int):
            raise ConfigError(
                f"dataset.image_size=auto: {backbone._target_} has no image_side, the rows and columns that it is made "
                "for. Give dataset.image_size."
            )
        return side
    from mobile_vla.policy.backbones.pretrained import image_side, read_settings  # transformers takes seconds

    return image_side(read_settings(backbone.weights))


def build_trainer(cfg: DictConfig) -> Trainer:
    """Return the options of training as an object."""
    return _instantiate(cfg.trainer)


def build_evaluation(cfg: DictConfig) -> Evaluation:
    """Return the options of the evaluation during training as an object."""
    return _instantiate(cfg.evaluation)


def build_run(cfg: DictConfig, *, on_estimate: Callable[[Estimate], None] | None = None) -> Run:
    """Read the data and build all parts of a checked config; each random part gets its own stream of ``seed``.

    ``on_estimate`` is called with the estimate for a pretrained backbone before its weights are loaded.
    """
    config = OmegaConf.to_container(cfg, resolve=True)
    trainer, dataset = build_trainer(cfg), build_dataset(cfg)
    logger = Loggers(loggers=[_instantiate(node) for node in cfg.logger.values()])
    # Set before the first computation: the number of threads changes how sums are rounded.
    torch.set_num_threads(trainer.num_threads)
    # Only a warning, because some operations have no deterministic kernel on a GPU: with an error they could not run.
    torch.use_deterministic_algorithms(True, warn_only=True)
    closed_loop = build_closed_loop(cfg.closed_loop)
    scan = dataset.scan()
    # Whatever refuses the data must do so before minutes of decoding: all parts are built without a pixel first.
    is_decoded = dataset.looks_at_frames or dataset.is_decoded(scan)
    data = dataset.open(scan, with_pixels=is_decoded)
    parts = _build_parts(cfg, data, dataset=dataset, trainer=trainer, closed_loop=closed_loop, on_estimate=on_estimate)
    if not is_decoded:
        planned, data = data, dataset.open(scan)
        if (data.data_hash, data.split.hash) != (planned.data_hash, planned.split.hash):  # some cannot be decoded
            parts = _build_parts(cfg, data, dataset=dataset, trainer=trainer, closed_loop=closed_loop)
    return Run(
        config=typing.cast(dict[str, Any], config),
        dataset=dataset,
        data=data,
        trainer=trainer,
        num_steps=trainer.num_steps(len(data.windows["train"])),
        sampler=parts.sampler,
        augment=parts.augment,
        model=parts.model,
        noise=Stream(cfg.seed, "noise"),
        evaluation=build_evaluation(cfg),
        closed_loop=parts.closed_loop,
        logger=logger,
    )


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """The parts of a run that depend on the data, but not on their pixels."""

    sampler: Sampler
    augment: Pipeline
    model: Model
    closed_loop: ClosedLoop | None


def _build_parts(
    cfg: DictConfig,
    data: OpenDataset,
    *,
    dataset: Dataset,
    trainer: Trainer,
    closed_loop: ClosedLoop,
    on_estimate: Callable[[Estimate], None] | None = None,
) -> _Parts:
    """Return the parts of a run on ``data``, whose readers may have no images yet; raise ``ConfigError`` as they do."""
    is_driven = dataset.world is not None and bool(closed_loop.suites)
    if is_driven:
        closed_loop.check(TrainedScenarios.of(data), spec=data.spec, fwd_pred_next_n=dataset.fwd_pred_next_n)
    augment = build_augmentation(cfg.augmentation, data.spec, stream=Stream(cfg.seed, "augmentation"))
    stream = Stream(cfg.seed, "sampler")
    sampler = build_sampler(cfg.sampler, data.readers["train"], batch_size=trainer.batch_size, stream=stream)
    estimate = _estimate(cfg, data, trainer)
    if estimate is not None and on_estimate is not None:
        on_estimate(estimate)
    model = build_model(cfg, data)
    check_variants(model, augment)
    return _Parts(sampler=sampler, augment=augment, model=model, closed_loop=closed_loop if is_driven else None)


def build_augmentation(node: DictConfig, spec: Spec, *, stream: Stream) -> Pipeline:
    """Return the augmentation for one option of the config group ``augmentation``, for data of ``spec``.

    A transform that is configured with ``_partial_`` gets ``spec``.
    """
    with _plain_errors():
        factory = instantiate(node, _convert_="all", _partial_=True)
        built = {
            name: transform(spec=spec) if isinstance(transform, partial) else transform
            for name, transform in factory.keywords.get("transforms", {}).items()
        }
        return factory(stream=stream, **({"transforms": built} if built else {}))


def build_closed_loop(node: DictConfig) -> ClosedLoop:
    """Return the options of the closed-loop evaluation from one option of the config group ``closed_loop``."""
    return _instantiate(node)


def build_sampler(node: DictConfig, reader: WindowReader, *, batch_size: int, stream: Stream) -> Sampler:
    """Return the sampler for one option of the config group ``sampler`` over the windows of ``reader``.

    It gets the table of the windows, and their actions as well if it has an argument ``chunks``.
    """
    with _plain_errors():
        factory = _with_chunks(instantiate(node, _convert_="all", _partial_=True), reader.chunks)
        return factory(windows=reader.windows, batch_size=batch_size, stream=stream)


def _with_chunks(value: Any, chunks: ActionChunks) -> Any:
    """Return ``value`` with ``chunks`` given to every factory that takes them; each sampler is checked when it is made.

    A sampler may contain others, so ``value`` may be a table of factories.
    """
    if isinstance(value, Mapping):
        return {key: _with_chunks(entry, chunks) for key, entry in value.items()}
    if not isinstance(value, partial):
        return value
    takes_chunks = "chunks" in inspect.signature(value.func).parameters
    given = {"chunks": chunks} if takes_chunks else {}
    return partial(_checked_sampler, value.func, **_with_chunks(value.keywords, chunks), **given)


def _checked_sampler(factory: Callable[..., Sampler], **given: Any) -> Sampler:
    sampler = factory(**given)
    check_sampler(sampler)
    return sampler


def _estimate(cfg: DictConfig, data: OpenDataset, trainer: Trainer) -> Estimate | None:
    """Return the estimate of a training step before any weight is loaded; raise ``ConfigError`` if it cannot fit.

    None if the backbone is not a pretrained one.
    """
    if cfg.model.backbone._target_ != PRETRAINED_BACKBONE:
        return None
    # Imported here, because transformers and peft take seconds to import.
    from mobile_vla.policy.estimate.device import available_bytes
    from mobile_vla.policy.estimate.fit import check_fits
    from mobile_vla.policy.estimate.step import BackboneOptions, Workload, estimate_backbone

    with _plain_errors():
        options = BackboneOptions(**instantiate(cfg.model.backbone, _convert_="all").keywords)
    workload = Workload(
        batch_size=trainer.batch_size,
        micro_batch_size=trainer.micro_batch_size,
        window_size=cfg.dataset.window_size,
        image_size=data.image.size,
        num_cameras=len(data.spec.cameras),
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


def build_model(cfg: DictConfig, data: OpenDataset) -> Model:
    """Return the model: weights initialised from ``seed`` only, statistics computed from the train episodes."""
    with torch.random.fork_rng(devices=[]):  # the global generator is restored; weights are initialised on the CPU
        torch.manual_seed(Stream(cfg.seed, "init").integer(0))
        model: Model = _instantiate(
            cfg.model,
            fwd_pred_next_n=cfg.dataset.fwd_pred_next_n,
            num_actions=len(data.spec.actions),
            num_state=len(data.spec.state),
            num_cameras=len(data.spec.cameras),
        )
    fit_statistics(model, data, data.split.train)
    return model


def fit_statistics(model: Model, data: OpenDataset, names: Sequence[str]) -> None:
    """Compute the model's statistics of actions and state from all frames of the episodes ``names``."""
    actions, states = zip(*((data.episodes[name].actions, data.episodes[name].state) for name in names), strict=True)
    model.fit(np.concatenate(actions), np.concatenate(states), signals=data.spec.actions, state_signals=data.spec.state)


def _instantiate(node: DictConfig, **given: object) -> Any:
    with _plain_errors():
        # Not passed to instantiate, which would convert the dataclasses in ``given`` to configs.
        return instantiate(node, _convert_="all", _partial_=True)(**given)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise a class's ``ValueError`` about its options as ``ConfigError``, without the text that Hydra adds to it."""
    try:
        yield
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise ConfigError(str(error.__cause__)) from error
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
