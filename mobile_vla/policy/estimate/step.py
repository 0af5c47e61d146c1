"""Estimate the memory and the operations of a training step before any weight is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from mobile_vla.policy.backbones.families.preprocessing import Size
from mobile_vla.policy.backbones.pretrained import Attention, DType
from mobile_vla.policy.backbones.tuning import Tuning
from mobile_vla.policy.estimate.layers import (
    Arithmetic,
    Layer,
    cast_bytes,
    kept_bytes,
    step_flops,
    without_adapters,
)
from mobile_vla.policy.estimate.outline import Outline, Parameter, lengths, read_outline

_BYTES: dict[DType, int] = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """The options of a ``VlmBackbone``."""

    weights: str
    structure: Literal["frame", "video"]
    tuning: Tuning
    dtype: DType
    attention: Attention
    gradient_checkpointing: bool
    frames_at_once: int


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The input of the backbone in one training step: options of the trainer and of the data set.

    ``micro_batch_size`` None: the whole batch at once. ``instructions`` are the texts of the data; the one with
    the most tokens counts.
    """

    batch_size: int
    micro_batch_size: int | None
    window_size: int
    image_size: Size
    num_cameras: int
    instructions: Sequence[str]
    precision: DType
    optimizer: Literal["adamw", "adamw_8bit"]
    device_type: str

    @property
    def windows_at_once(self) -> int:
        """Windows in one forward and backward pass."""
        return self.micro_batch_size or self.batch_size


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Memory and operations of the backbone in a training step, without the head and the batch itself.

    The numbers of parameters are exact. ``bytes_by_kind``: weights, gradients, optimizer, activations (kept for
    backward in one pass) and working memory (the values of the largest layer while it is computed). Embeddings,
    connector and last norm count as weights only, and every frame of a window is assumed to exist.
    ``flops_per_frame`` is for forward and backward.
    """

    outline: Outline = field(repr=False)
    options: BackboneOptions
    workload: Workload
    num_parameters: int
    num_trained: int
    tokens_per_prompt: int
    patches_per_image: int
    bytes_by_kind: dict[str, int]
    flops_per_frame: float

    @property
    def total_bytes(self) -> int:
        """The peak memory in bytes."""
        return sum(self.bytes_by_kind.values())

    @property
    def is_computed_once(self) -> bool:
        """Whether all features are computed before training, so that a step does not run the backbone."""
        return not self.options.tuning.learns and self.options.structure == "frame"

    @property
    def flops_per_step(self) -> float:
        """The operations of the backbone for a whole batch."""
        num_frames = 0 if self.is_computed_once else self.workload.batch_size * self.workload.window_size
        return num_frames * self.flops_per_frame


@dataclass(frozen=True, kw_only=True)
class _Tower:
    """Layers that process ``num_sequences`` sequences of ``length`` tokens for each window."""

    layers: Sequence[Layer]
    length: int
    num_sequences: int

    @property
    def num_tokens(self) -> int:
        return self.length * self.num_sequences


def estimate_backbone(options: BackboneOptions, workload: Workload) -> Estimate:
    """Estimate a step from config and tokenizer alone; ``ConfigError`` if ``weights`` cannot be found or read."""
    return estimate_outline(read_outline(options.weights, options.tuning), options, workload)


def estimate_outline(outline: Outline, options: BackboneOptions, workload: Workload) -> Estimate:
    """Estimate a step of a model whose outline was read with the weights and tuning of ``options``."""
    is_video = options.structure == "video"
    tokens, patches = lengths(
        outline,
        image_size=workload.image_size,
        num_cameras=workload.num_cameras,
        instructions=workload.instructions,
        num_frames=workload.window_size if is_video else None,
    )
    num_frames = workload.window_size
    towers = (
        _Tower(layers=outline.language, length=tokens, num_sequences=1 if is_video else num_frames),
        _Tower(layers=outline.vision, length=patches, num_sequences=num_frames * workload.num_cameras),
    )
    trained = [parameter for parameter in outline.parameters if parameter.is_trained]
    arithmetic, is_checkpointed = _arithmetic(options, workload), options.gradient_checkpointing
    casts = [cast_bytes(layer, arithmetic) for _, layer in _reached(towers)]
    kept = _kept_per_window(towers, arithmetic, is_checkpointed) * workload.windows_at_once
    kept += max(casts, default=0) if is_checkpointed else sum(casts)
    gradients = _num_bytes(trained, options)
    largest = _largest_per_window(towers, arithmetic)
    # Working memory is what the peak needs in addition to ``kept``. Backward adds the largest layer to it. Evaluation
    # and the optimiser's temporary copy of the gradients come when the activations are free again, so only what they
    # need beyond ``kept`` counts.
    working = max(
        largest * workload.windows_at_once if options.tuning.learns else 0,
        largest * options.frames_at_once / num_frames - kept,
        gradients - kept,
    )
    # Adam keeps two moments of each value, in the value's own dtype or quantised to one byte.
    moments = 2 * _num_bytes(trained, options, value_bytes=1 if workload.optimizer == "adamw_8bit" else None)
    return Estimate(
        outline=outline,
        options=options,
        workload=workload,
        num_parameters=sum(parameter.count for parameter in outline.parameters),
        num_trained=sum(parameter.count for parameter in trained),
        tokens_per_prompt=tokens,
        patches_per_image=patches,
        bytes_by_kind={
            "weights": _num_bytes(outline.parameters, options),
            "gradients": gradients,
            "optimizer": moments,
            "activations": round(kept),
            "working memory": round(working),
        },
        flops_per_frame=sum(_flops_per_window(tower, is_checkpointed) for tower in towers) / num_frames,
    )


def _arithmetic(options: BackboneOptions, workload: Workload) -> Arithmetic:
    is_mixed = workload.precision != "fp32"
    return Arithmetic(
        weight_bytes=_BYTES[options.dtype],
        compute_bytes=_BYTES[workload.precision if is_mixed else options.dtype],
        is_mixed=is_mixed,
        is_eager=options.attention == "eager",
        is_on_cpu=workload.device_type == "cpu",
    )


def _num_bytes(parameters: Sequence[Parameter], options: BackboneOptions, *, value_bytes: int | None = None) -> int:
    return sum(p.count * (value_bytes or _BYTES["fp32" if p.is_added else options.dtype]) for p in parameters)


def _kept_per_window(towers: Sequence[_Tower], arithmetic: Arithmetic, is_checkpointed: bool) -> float:
    """Return the bytes kept for backward; with checkpointing each layer's input, plus one whole layer at a time."""
    kept = [tower.num_tokens * kept_bytes(layer, arithmetic, length=tower.length) for tower, layer in _reached(towers)]
    if not is_checkpointed:
        return sum(kept)
    inputs = [tower.num_tokens * layer.hidden * arithmetic.hidden_bytes for tower, layer in _reached(towers)]
    return sum(inputs) + max(kept, default=0)


def _largest_per_window(towers: Sequence[_Tower], arithmetic: Arithmetic) -> float:
    """Return the bytes of the values within the largest layer; their gradients need about as much."""
    bare = [(tower, without_adapters(layer)) for tower in towers for layer in tower.layers]
    return max(tower.num_tokens * kept_bytes(layer, arithmetic, length=tower.length) for tower, layer in bare)


def _reached(towers: Sequence[_Tower]) -> list[tuple[_Tower, Layer]]:
    return [(tower, layer) for tower in towers for layer in tower.layers if layer.has_gradient]


def _flops_per_window(tower: _Tower, is_checkpointed: bool) -> float:
    flops = sum(step_flops(layer, length=tower.length, is_checkpointed=is_checkpointed) for layer in tower.layers)
    return flops * tower.num_tokens
