"""Load the model of a checkpoint; its description may name only allowed classes, as it can come from anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mobile_vla.errors import ConfigError, UserError
from mobile_vla.extras import missing_extra
from mobile_vla.policy.description import DESCRIPTION_FILE, PolicyDescription
from mobile_vla.policy.model import Model
from mobile_vla.policy.model_bounds import check_numbers, no_larger_than
from mobile_vla.policy.weights import WEIGHTS_FILE, load_weights
from mobile_vla.untrusted.files import inside, read_limited
from mobile_vla.untrusted.targets import check_targets, defined_object


def load_stored_model(
    folder: Path, *, base: str | Path | None = None, trust: Sequence[str] = ()
) -> tuple[Model, PolicyDescription]:
    """Return the trained model of a checkpoint, on the CPU, and the checkpoint's description.

    ``base`` is the folder or hub name of the pretrained weights that the model builds on; None takes the place that
    the description names, which may be inside the checkpoint. Only classes that this package defines for models, or
    that ``trust`` lists by full name, are ever imported or called. Raises ``UserError`` that names the folder and the
    problem: a missing or damaged file, a class that is not allowed, or another pretrained model.
    """
    try:
        model, description = _build_described(folder, base, trust)
        load_weights(model, folder)
    except UserError:
        raise
    except Exception as error:  # torch, safetensors and JSON raise many types for a damaged file
        if missing := missing_extra(error):
            raise UserError(f"{folder}: {missing}") from error
        raise UserError(
            f"{folder}: cannot be loaded ({type(error).__name__}: {error}). Expected {DESCRIPTION_FILE} and "
            f"{WEIGHTS_FILE} as a run of this version of mobile_vla saved them."
        ) from error
    return model, description


def recorded_base(description: PolicyDescription) -> str | None:
    """Return the folder or hub name of the pretrained weights that a policy builds on; None without any."""
    backbone = description.model.get("backbone")
    weights = backbone.get("weights") if isinstance(backbone, Mapping) else None
    return weights if isinstance(weights, str) else None


def with_backbone(description: PolicyDescription, **options: object) -> PolicyDescription:
    """Return ``description`` with some of its backbone's options replaced."""
    backbone = {**description.model["backbone"], **options}
    return replace(description, model={**description.model, "backbone": backbone})


def _build_described(folder: Path, base: str | Path | None, trust: Sequence[str]) -> tuple[Model, PolicyDescription]:
    """Return the model of a checkpoint before its weights (the normaliser's statistics included) are loaded."""
    hint = ""
    try:
        description = PolicyDescription.parse(read_limited(folder / DESCRIPTION_FILE))
        recorded, located = recorded_base(description), description
        if recorded is not None:
            if (folder / recorded).is_dir() and not Path(recorded).is_absolute():
                recorded = inside(folder, recorded)
            # Attention kernel and checkpointing change the cost, not the result. The machine that trained may have
            # had a kernel that this one lacks, so take those that every machine has.
            located = with_backbone(
                description,
                weights=str(recorded if base is None else base),
                attention="sdpa",
                gradient_checkpointing=False,
            )
            hint = " If they are in another folder here, give it: Policy.load(..., base=FOLDER), or --base FOLDER."
        elif base is not None:
            raise UserError(f"base={base}: has no effect, as this policy builds on no pretrained weights; leave it out")
        check_numbers(description.model)
        # The file does not contain the pretrained weights, so its size is no limit for a model that has them.
        with no_larger_than(folder / WEIGHTS_FILE) if recorded is None else nullcontext():
            return _build_model(located, trust), description
    except ConfigError as error:
        raise UserError(f"{folder}: {error}{hint if base is None else ''}") from error
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error


def _build_model(description: PolicyDescription, trust: Sequence[str]) -> Model:
    check_targets({"model": description.model}, place=DESCRIPTION_FILE, trust=trust)
    model = _build(
        description.model,
        fwd_pred_next_n=description.fwd_pred_next_n,
        num_actions=len(description.spec.actions),
        num_state=len(description.spec.state),
        num_cameras=len(description.spec.cameras),
    )
    if not isinstance(model, Model):
        raise UserError(f"model._target_: {type(model).__name__} is no model; expected {Model.__module__}.Model")
    return model


def _build(node: Mapping[str, Any], **given: object) -> object:
    """Build the object of a checked config node.

    Like Hydra's ``instantiate``, but only ``_target_`` and ``_partial_`` have a meaning: a file from elsewhere could
    misuse interpolation and Hydra's other keys.
    """
    target = defined_object(node["_target_"])
    options = {
        key: _build(value) if isinstance(value, Mapping) and "_target_" in value else value
        for key, value in node.items()
        if key not in ("_target_", "_partial_")
    }
    return partial(target, **options) if node.get("_partial_") else target(**options, **given)
