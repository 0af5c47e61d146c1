"""Build the model that a checkpoint describes, and nothing else that its file may name."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from mobile_vla.errors import UserError
from mobile_vla.policy.description import PolicyDescription
from mobile_vla.policy.model import Model
from mobile_vla.policy.normalizer import Normalizer

_OWN_CLASS = re.compile(r"mobile_vla\.policy\.(model|backbones\.\w+|heads\.\w+)\.\w+")


def build_stored_model(description: PolicyDescription, *, trust: Sequence[str] = ()) -> Model:
    """Return the untrained model of a checkpoint's ``policy.json``; its weights, the normaliser's too, come after.

    Only classes that this package defines for models, or that ``trust`` names in full, are ever imported or called.
    Raises ``UserError`` that names any other.
    """
    num_actions = len(description.action_names)
    model = _build(
        description.model,
        trust,
        normalizer=Normalizer(mean_A=np.zeros(num_actions), std_A=np.ones(num_actions)),
        fwd_pred_next_n=description.fwd_pred_next_n,
        num_actions=num_actions,
    )
    if not isinstance(model, Model):
        raise UserError(f"model._target_: {type(model).__name__} is no model; expected {Model.__module__}.Model")
    return model


def _build(node: Mapping[str, Any], trust: Sequence[str], **given: object) -> object:
    """Build an object of a config: like Hydra's ``instantiate``, but from known classes and plain values alone."""
    target = _known_class(node["_target_"], trust)
    options = {
        key: _build(value, trust) if isinstance(value, Mapping) and "_target_" in value else value
        for key, value in node.items()
        if key not in ("_target_", "_partial_")
    }
    return partial(target, **options) if node.get("_partial_") else target(**options, **given)


def _known_class(name: object, trust: Sequence[str]) -> type[nn.Module]:
    if not isinstance(name, str) or not (_OWN_CLASS.fullmatch(name) or name in trust):
        raise UserError(
            f"names the class {name!r}, which is no backbone or head of mobile_vla, so it is not loaded. If it is "
            "yours and you trust it, say so: Policy.load(..., trust=['package.module.Class']), or --trust."
        )
    module_name, class_name = name.rsplit(".", 1)
    found = vars(importlib.import_module(module_name)).get(class_name)
    # Only what the module itself defines: what it imports could be anything.
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module_name):
        raise UserError(f"names {name}, which is not a torch.nn.Module defined there")
    return found
