"""Parameters, layers and token counts of a model, read on the meta device, where tensors have no memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import AutoModel

from mobile_vla.policy.backbones.families.family import Family, find_family, prompt_ids
from mobile_vla.policy.backbones.families.preprocessing import Size
from mobile_vla.policy.backbones.pretrained import Settings, read_settings
from mobile_vla.policy.backbones.tuning import Tuning, layer_stack
from mobile_vla.policy.estimate.layers import Layer, Linear, Norm


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter tensor of ``count`` values; ``is_added``: not pretrained but added by this package, in float32."""

    count: int
    is_trained: bool
    is_added: bool


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The structure of a tuned model. ``has_class_token``: the vision tower adds a token to the patches."""

    settings: Settings
    family: type[Family]
    parameters: tuple[Parameter, ...]
    language: tuple[Layer, ...]
    vision: tuple[Layer, ...]
    has_class_token: bool


def read_outline(weights: str, tuning: Tuning) -> Outline:
    """Return the structure of the model of ``weights`` after ``tuning``, built on the meta device.

    Raises ``ConfigError`` if ``weights`` cannot be found or read, or if ``tuning`` does not fit the model.
    """
    settings = read_settings(weights)
    family = find_family(settings.config)
    with torch.device("meta"):
        base = AutoModel.from_config(settings.config)
        tuned = tuning(base, family)
    vision = base.get_submodule(family.vision_module)
    embeddings: Any = base.get_input_embeddings()
    is_adapted = isinstance(tuned, PeftModel)
    parameters = [
        Parameter(count=p.numel(), is_trained=p.requires_grad, is_added=is_adapted and ".lora_" in name)
        for name, p in tuned.named_parameters()
    ]
    action_token = Parameter(count=embeddings.embedding_dim, is_trained=tuning.learns, is_added=True)
    stack = layer_stack(vision)
    outside = {id(p) for p in vision.parameters()} - {id(p) for p in stack.parameters()}
    return Outline(
        settings=settings,
        family=family,
        parameters=(*parameters, action_token),
        # The action token is trained whenever anything is, and it enters before the first layer: backward then goes
        # through the whole language model, even if only its last layers are trained.
        language=_read_layers(base.get_submodule(family.language_module), gradient_enters=tuning.learns),
        vision=_read_layers(
            vision, gradient_enters=any(p.requires_grad for p in vision.parameters() if id(p) in outside)
        ),
        has_class_token=any(name.endswith("class_embedding") for name, _ in vision.named_parameters()),
    )


def lengths(
    outline: Outline, *, image_size: Size, num_cameras: int, instructions: Iterable[str], num_frames: int | None
) -> tuple[int, int]:
    """Return (tokens of the longest prompt, tokens of an image in the vision tower).

    ``num_frames`` is the number of frames in one prompt, None for prompts of a single frame (see ``prompt_ids``).
    """
    settings = outline.settings
    family = outline.family(settings.config, settings.tokenizer, settings.processor)
    size = family.preprocessing(image_size).size
    frame = family.frame_ids(size, num_cameras=num_cameras)
    prompts = [
        prompt_ids(family, settings.tokenizer, text, frame=frame, num_frames=num_frames) for text in instructions
    ]
    patch = settings.config.vision_config.patch_size
    return max(map(len, prompts)), (size[0] // patch) * (size[1] // patch) + outline.has_class_token


def _read_layers(part: nn.Module, *, gradient_enters: bool) -> tuple[Layer, ...]:
    """Return the layers of a language model or vision tower that is tuned already and may be on the meta device.

    ``gradient_enters``: the input of the first layer is trained. Otherwise backward stops at the first trained layer.
    """
    stack = layer_stack(part)
    learns = [any(p.requires_grad for p in layer.parameters()) for layer in stack]
    reached = accumulate(learns, initial=gradient_enters, func=lambda before, here: before or here)
    return tuple(_read_layer(layer, flag) for layer, flag in zip(stack, list(reached)[1:], strict=True))


def _read_layer(layer: nn.Module, has_gradient: bool) -> Layer:
    # Recognised by structure, because class and layer names differ between families: attention has "attn" in its name,
    # fused attention has two linear layers (qkv and output) instead of four, and a gated MLP has three.
    children = list(layer.named_children())
    attention = next(module for name, module in children if "attn" in name)
    of_attention = list(_linears(attention))
    of_mlp = [found for name, module in children if module is not attention for found in _linears(module)]
    out, down = of_attention[-1][1], of_mlp[-1][1]
    sizes: Any = attention
    return Layer(
        linears=(
            *_read_linears(of_attention, keeps_last=False),
            *_read_linears(of_mlp, keeps_last=True),
        ),
        norms=tuple(_read_norms(layer, dict(of_attention))),
        hidden=out.out_features,
        attention_width=out.in_features,
        num_heads=getattr(sizes, "num_heads", None) or out.in_features // sizes.head_dim,
        has_fused_qkv=len(of_attention) == 2,
        has_dropout=getattr(layer, "dropout", 0.0) > 0,
        has_attention_dropout=max(getattr(attention, name, 0.0) for name in ("dropout", "attention_dropout")) > 0,
        activation_width=down.in_features * _activation_copies(layer, is_gated=len(of_mlp) == 3),
        has_gradient=has_gradient,
    )


def _activation_copies(layer: nn.Module, *, is_gated: bool) -> int:
    """Return how many tensors backward keeps: the input, both factors of a gate, and those of x * sigmoid(1.7 x)."""
    is_product = any(type(module).__name__.startswith("QuickGELU") for module in layer.modules())
    return 1 + 2 * is_gated + is_product


def _linears(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield linear layers with the last part of their names; an adapted layer as peft's wrapper, not its parts."""
    for name, found in module.named_modules():
        is_part = name.endswith(".base_layer") or ".lora_" in name
        if isinstance(found, LoraLayer | nn.Linear) and not is_part:
            yield name.split(".")[-1], found


def _read_linears(found: list[tuple[str, Any]], *, keeps_last: bool) -> Iterator[Linear]:
    """Yield the linear layers of an attention or MLP, in which all but the last read the same input."""
    for place, (_, module) in enumerate(found):
        is_last = place == len(found) - 1
        adapted = isinstance(module, LoraLayer)
        weight: Any = module.get_base_layer().weight if adapted else module.weight
        yield Linear(
            num_in=module.in_features,
            num_out=module.out_features,
            is_trained=weight.requires_grad,
            has_own_input=keeps_last if is_last else place == 0,
            rank=module.r["default"] if adapted else 0,
            has_dropout=adapted and isinstance(module.lora_dropout["default"], nn.Dropout),
            is_dora=adapted and module.use_dora["default"],
        )


def _read_norms(layer: nn.Module, of_attention: dict[str, Any]) -> Iterator[Norm]:
    norms: list[tuple[str, Any]] = [(n, m) for n, m in layer.named_modules() if type(m).__name__.endswith("Norm")]
    for name, module in norms:
        # The weight of a query or key norm has the width of one head, but the norm runs over all heads.
        projection = of_attention.get(name.split(".")[-1].replace("_norm", "_proj"))
        width = projection.out_features if projection is not None else len(module.weight)
        yield Norm(width=width, is_rms="RMS" in type(module).__name__, is_trained=module.weight.requires_grad)
