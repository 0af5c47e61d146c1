"""Compose the config of a job, and check every value in it against the signature of the class that gets it."""

from __future__ import annotations

import inspect
import json
import logging
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeGuard

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from mobile_vla.config_keys import register_own_keys
from mobile_vla.errors import ConfigError
from mobile_vla.extras import missing_extra
from mobile_vla.installation import CONF

register_own_keys()

ROOT_KEYS = {
    "seed",
    "study",
    "resume",
    "trust",
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
    "dataset": {"state"},
    "dataset.layout": set(),
    "sampler": {"windows", "batch_size", "stream", "chunks"},
    "augmentation": {"stream"},
    "augmentation.transforms": {"spec"},
    "model": {"fwd_pred_next_n", "num_actions", "num_state", "num_cameras"},
    "model.backbone": {"num_cameras"},
    "model.head": {"feature_dim", "fwd_pred_next_n", "num_actions"},
    "model.head.history": {"feature_dim"},
}
"""Arguments that the run computes from the data, the budget and other options (``state`` of a data set is
``model.state``), so that the config must not set them.

A key is a config path; its entry is valid for the options below it as well, unless a longer path has an entry.
"""

_OWN_KEYS = {"_target_", "_partial_"}


def compose_config(overrides: Sequence[str], *, name: str = "config") -> DictConfig:
    """Return the config of a job as ``run.py`` composes it; raise ``ConfigError`` if the overrides do not fit.

    ``name`` is the file in conf/ to start from, for example ``sampler/rho`` for only that option.
    """
    # A sweep has a Hydra of its own while it is planned; it is put back afterwards.
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(name, list(overrides))
    except HydraException as error:
        raise ConfigError(str(error)) from error
    finally:
        GlobalHydra.instance().hydra = running


def check_config(cfg: DictConfig, *, overrides: Sequence[str] = ()) -> None:
    """Check every value against the signature that gets it; raise one ``ConfigError`` with all errors of the config.

    It finds unknown and missing keys, values of the wrong type, values that are not in the list of options, and
    ``overrides`` that have no effect because of each other. No data are read.
    """
    errors = [
        f"{key}: unknown key; expected one of {', '.join(sorted(ROOT_KEYS))}" for key in cfg if key not in ROOT_KEYS
    ]
    if absent := ROOT_KEYS - set(cfg):
        none = " For no logger give logger=local." if "logger" in absent else " Leave out the ~override."
        raise ConfigError(f"the config lacks {', '.join(sorted(absent))}: every run needs it.{none}")
    if type(cfg.seed) is not int or cfg.seed < 0:  # True is an int too
        errors.append(f"seed: {cfg.seed!r}; expected an integer of 0 or more")
    errors += study_errors(cfg.study)
    if not (isinstance(cfg.trust, ListConfig) and all(isinstance(name, str) for name in cfg.trust)):
        errors.append(f"trust: {cfg.trust!r}; expected a list of full names, such as trust=[package.module.Class]")
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
        if not isinstance(groups["logger"], Mapping) or _names_object(groups["logger"]):
            errors.append("logger: expected NAME: {_target_: ...}, as in conf/logger/wandb.yaml, or logger=local")
        else:
            errors += _check_objects("logger", groups["logger"])
    if errors:
        raise ConfigError("the config cannot be run:\n" + "\n".join(f"  {error}" for error in errors))


def study_errors(study: object) -> list[str]:
    """Return the errors in the config's ``study``."""
    if not isinstance(study, DictConfig):
        return [f"study: {study!r}; expected study.name, study.primary, study.baseline and study.controls"]
    options = OmegaConf.to_container(study, resolve=True)
    assert isinstance(options, dict)
    return _check_target("study", {"_target_": "mobile_vla.study.options.Study", **options})


def options_marked(mark: object, node: object, *, path: str) -> list[tuple[str, Any]]:
    """Return (key, value) of the options below ``node`` whose annotation has the metadata ``mark``.

    ``path`` is the key of ``node``, which is made of plain containers and was checked.
    """
    if not isinstance(node, Mapping):
        return []
    found = [pair for key, value in node.items() for pair in options_marked(mark, value, path=f"{path}.{key}")]
    if _names_object(node):
        hints = _hints_of(get_object(node["_target_"]))
        found += [
            (f"{path}.{key}", value)
            for key, value in node.items()
            if value is not None and _has_mark(hints.get(key), mark)
        ]
    return found


def _has_mark(annotation: object, mark: object) -> bool:
    """Return whether ``annotation`` holds ``mark``, also inside a union such as ``Annotated[int, mark] | None``."""
    return any(part == mark or _has_mark(part, mark) for part in typing.get_args(annotation))


def _hints_of(target: Any) -> dict[str, Any]:
    return typing.get_type_hints(target.__init__ if isinstance(target, type) else target, include_extras=True)


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
        with _without_log("hydra.utils"):  # its traceback would hide the message made of it here
            target = get_object(node["_target_"])
    except Exception as error:  # an import can raise any error, and Hydra wraps it
        if missing := missing_extra(error):
            return [f"{path}: {missing}"]
        return [f"{path}._target_: cannot import {node['_target_']} ({str(error).splitlines()[0]})"]
    parameters = inspect.signature(target).parameters
    hints = _hints_of(target)
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


@contextmanager
def _without_log(name: str) -> Iterator[None]:
    log = logging.getLogger(name)
    was_disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was_disabled


def _holds_targets(value: object) -> bool:
    if isinstance(value, Mapping):
        return _names_object(value) or any(_holds_targets(v) for v in value.values())
    return isinstance(value, list) and any(_holds_targets(v) for v in value)


def _check_value(path: str, value: object, annotation: Any) -> list[str]:
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, SchemaError):
        if isinstance(value, str | int | float) or (value is None and type(None) not in typing.get_args(annotation)):
            group = path.replace(".", "/")
            return [f"{path}: {value!r}; expected an object with a _target_. An option is chosen with /: {group}=NAME"]
        return _check_objects(path, value)  # a protocol: the config does not show whether the object fits it
    try:
        # Strict, because the class gets the value unconverted: the string 'no' must not be accepted as False, since it
        # would then be true in an ``if``. As JSON, because a strict check of Python values rejects a list for a tuple.
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        found = {item["msg"].removeprefix("Value error, ") for item in error.errors()}
        return [f"{path}: {value!r}; {' or '.join(sorted(found))}"]
    return []


def _check_objects(path: str, value: object) -> list[str]:
    """Return an error for each entry of a table of objects, such as an augmentation's transforms, that is no object."""
    if not isinstance(value, Mapping) or _names_object(value):
        return []
    odd = {key: entry for key, entry in value.items() if not _names_object(entry)}
    return [f"{path}.{key}: {entry!r}; expected an object with a _target_" for key, entry in odd.items()]
