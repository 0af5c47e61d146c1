"""Save and load the trained weights of a model, without the pretrained weights that did not change."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mobile_vla.errors import UserError
from mobile_vla.policy.model import Model

WEIGHTS_FILE = "model.safetensors"
ADAPTER_FOLDER = "adapter"
BASE_FOLDER = "base"
"""The folder in a merged export with the pretrained weights, to which the adapter was added."""

_BASE = "base"


def save_weights(model: Model, folder: Path) -> None:
    """Write ``model.safetensors`` into ``folder``, and a subfolder with the adapter if the backbone has one."""
    state, metadata = model.state_dict(), {}
    for name in model.backbone.unstored:
        del state[f"backbone.{name}"]
    if model.backbone.weights is not None:
        # One entry, not two: safetensors writes several entries in random order, and the file's digest would vary.
        metadata = {_BASE: f"{model.backbone.weights}@{model.backbone.base_hash}"}
    model.backbone.save_adapter(folder / ADAPTER_FOLDER)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS_FILE, metadata)


def load_weights(model: Model, folder: Path) -> None:
    """Load what ``save_weights`` wrote; raise ``UserError`` if it was trained on another pretrained model."""
    check_base(model, folder)
    state = load_file(folder / WEIGHTS_FILE)
    model.backbone.load_adapter(folder / ADAPTER_FOLDER)
    # The entries that are not in the file are added from the model, so that the load can be strict about all others.
    known = {f"backbone.{name}" for name in model.backbone.unstored}
    model.load_state_dict({**{name: t for name, t in model.state_dict().items() if name in known}, **state})


def check_base(model: Model, folder: Path) -> None:
    """Raise ``UserError`` if the weights in ``folder`` were trained on another pretrained model than ``model`` has."""
    if model.backbone.base_hash is None:
        return
    with safe_open(folder / WEIGHTS_FILE, "pt") as file:
        name, _, base_hash = (file.metadata() or {}).get(_BASE, "").rpartition("@")
    if base_hash != model.backbone.base_hash:
        raise UserError(
            f"{folder}: was trained on {name} (hash {base_hash}); {model.backbone.weights} has hash "
            f"{model.backbone.base_hash} and is another model. Give the one it was trained on."
        )
