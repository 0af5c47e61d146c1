"""Build the model that a checkpoint describes, and nothing else that its file may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mobile_vla.errors import ConfigError, UserError
from mobile_vla.policy.description import DESCRIPTION_FILE, PolicyDescription
from mobile_vla.policy.model import Model
from mobile_vla.policy.model_bounds import check_numbers, no_larger_than
from mobile_vla.policy.weights import WEIGHTS_FILE, load_weights
from mobile_vla.untrusted.files import inside, read_limited
from mobile_vla.untrusted.targets import check_targets, defined_object


def load_stored_model(
    folder: Path, *, base: str | Path | None = None, trust: Sequence[str] = ()
) -> tuple[Model, PolicyDescription]:
    """Return the trained model of a checkpoint, on the CPU, and what the checkpoint says of itself.

    ``base`` is where the pretrained weights lie that it builds on; None: where it says, or inside its own folder.
    Only classes that this package defines for models, or that ``trust`` names in full, are ever imported or called.
    Raises ``UserError`` that names the folder and what is missing, damaged, another class or another pretrained model.
    """
    try:
        model, description = _build_described(folder, base, trust)
        load_weights(model, folder)
    except UserError:
        raise
    except Exception as error:  # whatever torch, safetensors and JSON make of a damaged file
        raise UserError(
            f"{folder}: cannot be loaded ({type(error).__name__}: {error}). Expected {DESCRIPTION_FILE} and "
            f"{WEIGHTS_FILE} as a run of this version of mobile_vla saved them."
        ) from error
    return model, description


def recorded_base(description: PolicyDescription) -> str | None:
    """Return the pretrained weights that a policy says it builds on, a folder or a hub name; None where on none."""
    backbone = description.model.get("backbone")
    weights = backbone.get("weights") if isinstance(backbone, Mapping) else None
    return weights if isinstance(weights, str) else None


def with_backbone(description: PolicyDescription, **options: object) -> PolicyDescription:
    """Return ``description`` with some of its backbone's options replaced."""
    backbone = {**description.model["backbone"], **options}
    return replace(description, model={**description.model, "backbone": backbone})


def _build_described(folder: Path, base: str | Path | None, trust: Sequence[str]) -> tuple[Model, PolicyDescription]:
    """Return the untrained model of a checkpoint; its weights, the normaliser's too, come after."""
    hint = ""
    try:
        description = PolicyDescription.parse(read_limited(folder / DESCRIPTION_FILE))
        recorded, located = recorded_base(description), description
        if recorded is not None:
            if (folder / recorded).is_dir() and not Path(recorded).is_absolute():
                recorded = inside(folder, recorded)
            # How it was computed is no part of what was learnt: attention that every machine has.
            located = with_backbone(
                description,
                weights=str(recorded if base is None else base),
                attention="sdpa",
                gradient_checkpointing=False,
            )
            hint = " Where they lie elsewhere here, say so: Policy.load(..., base=FOLDER), or --base FOLDER."
        elif base is not None:
            raise UserError(f"base={base}: has no effect, as this policy builds on no pretrained weights; leave it out")
        check_numbers(description.model)
        # What a pretrained backbone holds is stored elsewhere.
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
        num_actions=len(description.action_names),
    )
    if not isinstance(model, Model):
        raise UserError(f"model._target_: {type(model).__name__} is no model; expected {Model.__module__}.Model")
    return model


def _build(node: Mapping[str, Any], **given: object) -> object:
    """Build an object of a checked config: like Hydra's ``instantiate``, but from plain values alone."""
    target = defined_object(node["_target_"])
    options = {
        key: _build(value) if isinstance(value, Mapping) and "_target_" in value else value
        for key, value in node.items()
        if key not in ("_target_", "_partial_")
    }
    return partial(target, **options) if node.get("_partial_") else target(**options, **given)
