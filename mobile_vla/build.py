"""Check the whole config, then turn it into typed parts: the one caller of instantiate."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic_core import SchemaError

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

CONF = Path(__file__).resolve().parents[1] / "conf"

ROOT_KEYS = {
    "seed",
    "study",
    "resume",
    "dataset",
    "sampler",
    "augmentation",
    "model",
    "trainer",
    "evaluation",
    "closed_loop",
    "logger",
}

SET_BY_THE_RUN = {
    "sampler": {"windows", "batch_size", "stream", "chunks"},
    "augmentation": {"stream"},
    "augmentation.transforms": set(),
    "model": {"fwd_pred_next_n", "num_actions"},
    "model.backbone": set(),
    "model.head": {"feature_dim", "fwd_pred_next_n", "num_actions"},
    "model.head.history": {"feature_dim"},
}
"""Arguments, by config path and what lies below it, that come from the data and the budget and not from the config."""

PRETRAINED_BACKBONE = "mobile_vla.policy.backbones.vlm.VlmBackbone"

_OWN_KEYS = {"_target_", "_partial_"}


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Return the config of a job as ``run.py`` would compose it; ``ConfigError`` where the overrides do not fit."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return compose("config", list(overrides))
        except HydraException as error:
            raise ConfigError(str(error)) from error


def check_config(cfg: DictConfig, *, overrides: Sequence[str] = ()) -> None:
    """Hold every value against the signature it will reach; ``ConfigError`` lists all errors of the config at once.

    Unknown and missing keys, values of the wrong type, options out of their list and ``overrides`` that cancel
    each other out are found here, before anything is read.
    """
    errors = [
        f"{key}: unknown key; expected one of {', '.join(sorted(ROOT_KEYS))}" for key in cfg if key not in ROOT_KEYS
    ]
    if absent := ROOT_KEYS - set(cfg):
        raise ConfigError(f"the config lacks {', '.join(sorted(absent))}: every run needs it. Leave out the ~override.")
    if type(cfg.seed) is not int or cfg.seed < 0:  # True is an int too
        errors.append(f"seed: {cfg.seed!r}; expected an integer of 0 or more")
    errors += _check_study(cfg.study)
    epochs = OmegaConf.select(cfg, "trainer.epochs")
    if epochs is not None and any(override.startswith("trainer.steps=") for override in overrides):
        errors.append(
            f"trainer.steps: has no effect, as trainer.epochs={epochs} sets the budget; give one of them, "
            "or trainer.epochs=null"
        )
    missing = OmegaConf.missing_keys(cfg)
    errors += [f"{key}: required; give it on the command line ({key}=...)" for key in sorted(missing)]
    if not missing:
        groups = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(groups, dict)
        for name, node in groups.items():
            errors += _check_node(str(name), node)
    if errors:
        raise ConfigError("the config cannot be run:\n" + "\n".join(f"  {error}" for error in errors))


def _check_study(study: object) -> list[str]:
    if not isinstance(study, DictConfig):
        return [f"study: {study!r}; expected study.name, study.primary, study.baseline and study.controls"]
    options = OmegaConf.to_container(study)
    assert isinstance(options, dict)
    return _check_target("study", {"_target_": "mobile_vla.study.options.Study", **options})


def _names_object(node: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(node, Mapping) and "_target_" in node


def _check_node(path: str, node: object) -> list[str]:
    if isinstance(node, Mapping):
        errors = _check_target(path, node) if _names_object(node) else []
        return errors + [e for key, value in node.items() for e in _check_node(f"{path}.{key}", value)]
    if isinstance(node, list):
        return [e for index, value in enumerate(node) for e in _check_node(f"{path}[{index}]", value)]
    return []


def _set_by_the_run(path: str) -> set[str]:
    covering = [known for known in SET_BY_THE_RUN if path == known or path.startswith(f"{known}.")]
    return SET_BY_THE_RUN[max(covering, key=len)] if covering else set()


def _check_target(path: str, node: Mapping[Any, Any]) -> list[str]:
    given = _set_by_the_run(path)
    try:
        target = get_object(node["_target_"])
    except Exception as error:  # Hydra wraps whatever the import raised.
        return [f"{path}._target_: cannot import {node['_target_']} ({str(error).splitlines()[0]})"]
    parameters = inspect.signature(target).parameters
    hints = typing.get_type_hints(target.__init__ if isinstance(target, type) else target, include_extras=True)
    errors = []
    for key in node.keys() - _OWN_KEYS:
        if key in parameters and key in given:
            errors.append(f"{path}.{key}: is set by the run; remove it")
        elif key not in parameters:
            options = [name for name in parameters if name not in given]
            errors.append(
                f"{path}.{key}: {target.__name__} has no such option; expected {', '.join(options) or 'none at all'}"
            )
        elif _holds_targets(node[key]):
            errors += _check_objects(f"{path}.{key}", node[key])
        else:
            errors += _check_value(f"{path}.{key}", node[key], hints.get(key, Any))
    required = {name for name, p in parameters.items() if p.default is p.empty} - given
    errors += [f"{path}.{name}: missing; {target.__name__} needs it" for name in sorted(required - node.keys())]
    return errors


def _holds_targets(value: object) -> bool:
    if isinstance(value, Mapping):
        return _names_object(value) or any(_holds_targets(v) for v in value.values())
    return isinstance(value, list) and any(_holds_targets(v) for v in value)


def _check_value(path: str, value: object, annotation: Any) -> list[str]:
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, SchemaError):
        return _check_objects(path, value)  # a protocol: what an object must do is not to be seen in its config
    try:
        # Strict, as the value goes on as it is: 'no' must not pass for False and then be true.
        # From JSON, where a list may stand for a tuple.
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        found = {item["msg"].removeprefix("Value error, ") for item in error.errors()}
        return [f"{path}: {value!r}; {' or '.join(sorted(found))}"]
    return []


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


def _check_objects(path: str, value: object) -> list[str]:
    """Check that a table of objects, such as an augmentation's transforms, holds nothing else."""
    if not isinstance(value, Mapping) or _names_object(value):
        return []
    odd = {key: entry for key, entry in value.items() if not _names_object(entry)}
    return [f"{path}.{key}: {entry!r}; expected an object with a _target_" for key, entry in odd.items()]


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
    if dataset.world is None:
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


def build_closed_loop(node: DictConfig) -> ClosedLoop | None:
    """Return what is driven, and how, of one option of the group; None for the one that drives nowhere."""
    found = _instantiate(node)
    return found if isinstance(found, ClosedLoop) else None


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
