"""Store what a model has learnt beside the pretrained weights it builds on, and put it back onto the same ones."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mobile_vla.errors import UserError
from mobile_vla.policy.model import Model

WEIGHTS_FILE = "model.safetensors"
ADAPTER_FOLDER = "adapter"
BASE_FOLDER = "base"
"""Of an export that holds the pretrained weights themselves, the adapter added to them."""

_BASE = "base"


@runtime_checkable
class Pretrained(Protocol):
    """A backbone that builds on weights which are stored elsewhere.

    ``weights`` names them and ``base_hash`` tells them from others. ``learns`` is False where nothing of the backbone
    does. ``unstored`` are the entries of its state dict that are theirs, unchanged, or an adapter's. ``feature_key``
    tells its features from another's where it does not learn and a frame's feature stands alone, so that they can be
    cached, with ``cached_variants`` augmented ones; else None.
    """

    weights: str
    base_hash: str
    learns: bool
    unstored: frozenset[str]
    feature_key: str | None
    cached_variants: int

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter to ``folder`` in peft's own format; nothing where there is none."""
        ...

    def load_adapter(self, folder: Path) -> None:
        """Take over the adapter in ``folder``; nothing where this backbone has none."""
        ...


def save_weights(model: Model, folder: Path) -> None:
    """Write ``model.safetensors``, and an adapter beside it where the backbone has one, into ``folder``."""
    state, metadata = model.state_dict(), {}
    if isinstance(model.backbone, Pretrained):
        for name in model.backbone.unstored:
            del state[f"backbone.{name}"]
        # One entry: with two, their order and so the file's bytes would be chance.
        metadata = {_BASE: f"{model.backbone.weights}@{model.backbone.base_hash}"}
        model.backbone.save_adapter(folder / ADAPTER_FOLDER)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS_FILE, metadata)


def load_weights(model: Model, folder: Path) -> None:
    """Take over what ``save_weights`` wrote; ``UserError`` where it builds on another pretrained model."""
    check_base(model, folder)
    state = load_file(folder / WEIGHTS_FILE)
    if not isinstance(model.backbone, Pretrained):
        model.load_state_dict(state)
        return
    model.backbone.load_adapter(folder / ADAPTER_FOLDER)
    known = {f"backbone.{name}" for name in model.backbone.unstored}
    model.load_state_dict({**{name: t for name, t in model.state_dict().items() if name in known}, **state})


def check_base(model: Model, folder: Path) -> None:
    """Raise ``UserError`` where what ``folder`` holds was trained on another pretrained model than ``model`` has."""
    if not isinstance(model.backbone, Pretrained):
        return
    with safe_open(folder / WEIGHTS_FILE, "pt") as file:
        name, _, base_hash = (file.metadata() or {}).get(_BASE, "").rpartition("@")
    if base_hash != model.backbone.base_hash:
        raise UserError(
            f"{folder}: was trained on {name} (hash {base_hash}); {model.backbone.weights} has hash "
            f"{model.backbone.base_hash} and is another model. Give the one it was trained on."
        )
