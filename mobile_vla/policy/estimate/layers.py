"""Cost of one transformer layer in a training step: bytes that backward needs, and floating point operations.

The count follows Korthikanti et al. (2022, "Reducing activation recomputation in large transformer models", section 4).
It is made for each operation instead of for one architecture, because a frozen linear layer does not keep its input
and an adapter keeps its own copy. Fused attention (``sdpa``) keeps queries, keys, values and result; ``eager`` also
keeps the attention weight of every pair of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_FP32 = 4


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Bytes per value of the pretrained weights and of computed values; ``is_mixed``: under autocast."""

    weight_bytes: int
    compute_bytes: int
    is_mixed: bool
    is_eager: bool
    is_on_cpu: bool

    @property
    def mask_bytes(self) -> int:
        """Bytes per value of a dropout mask: torch stores float32 factors on the CPU, booleans on the GPU."""
        return _FP32 if self.is_on_cpu else 1

    @property
    def hidden_bytes(self) -> int:
        """Bytes per value of the residual stream, which starts in the dtype of the weights."""
        return max(self.weight_bytes, self.compute_bytes)

    @property
    def adapter_bytes(self) -> int:
        """Bytes per value in an adapter, whose weights are float32."""
        return self.compute_bytes if self.is_mixed else _FP32

    def norm_bytes(self, norm: Norm) -> int:
        """Return the bytes per value that a norm keeps: a norm that computes in float32 keeps a float32 copy."""
        return _FP32 if norm.is_rms or self.is_mixed else self.compute_bytes


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A linear layer and its adapter (``rank`` 0: no adapter).

    ``has_own_input``: no earlier operation keeps the same input already.
    """

    num_in: int
    num_out: int
    is_trained: bool
    has_own_input: bool
    rank: int
    has_dropout: bool
    is_dora: bool


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A norm over ``width`` values per token."""

    width: int
    is_rms: bool
    is_trained: bool


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A transformer layer; ``has_gradient``: whether backward goes through it.

    ``attention_width`` is the width of the queries of all heads together; ``activation_width`` is the number of values
    per token that the activation function keeps; ``has_dropout``: after attention and after the MLP.
    """

    linears: tuple[Linear, ...]
    norms: tuple[Norm, ...]
    hidden: int
    attention_width: int
    num_heads: int
    has_fused_qkv: bool
    has_dropout: bool
    has_attention_dropout: bool
    activation_width: int
    has_gradient: bool


def without_adapters(layer: Layer) -> Layer:
    """Return the layer of the pretrained model without adapters."""
    bare = tuple(replace(linear, rank=0, has_dropout=False, is_dora=False) for linear in layer.linears)
    return replace(layer, linears=bare)


def kept_bytes(layer: Layer, arithmetic: Arithmetic, *, length: int) -> float:
    """Return the bytes per token that a layer keeps for backward; ``length`` tokens attend to each other."""
    kept: float = sum(norm.width * arithmetic.norm_bytes(norm) for norm in layer.norms)
    # The gradient of an RMS norm's weight needs the normalised values as well.
    kept += sum(norm.width * arithmetic.compute_bytes for norm in layer.norms if norm.is_trained and norm.is_rms)
    kept += arithmetic.compute_bytes * layer.activation_width
    kept += 2 * layer.hidden * arithmetic.mask_bytes * layer.has_dropout
    kept += _attention_bytes(layer, arithmetic, length=length)
    return kept + sum(_linear_bytes(linear, arithmetic) for linear in layer.linears)


def cast_bytes(layer: Layer, arithmetic: Arithmetic) -> int:
    """Return the bytes of the weight copies that autocast makes in the compute dtype, and keeps until backward."""
    if not arithmetic.is_mixed or arithmetic.weight_bytes == arithmetic.compute_bytes:
        return 0
    return arithmetic.compute_bytes * sum(linear.num_in * linear.num_out for linear in layer.linears)


def step_flops(layer: Layer, *, length: int, is_checkpointed: bool) -> float:
    """Return the operations per token of forward and backward (and of the second forward of a checkpointed layer).

    A multiplication and an addition count as two. Backward costs as much as forward for the gradient of the input, and
    as much again for the gradient of a trained weight. Attention has no weights, but its products have two inputs.
    """
    # Two products, queries with keys and weights with values, each of 2 * length * width operations per token.
    attention = 4 * length * layer.attention_width
    adapters = sum(2 * linear.rank * (linear.num_in + linear.num_out) for linear in layer.linears)
    forward = sum(2 * linear.num_in * linear.num_out for linear in layer.linears) + adapters
    learned = sum(2 * linear.num_in * linear.num_out for linear in layer.linears if linear.is_trained) + adapters
    again = int(is_checkpointed and layer.has_gradient)
    backward = forward + learned + 2 * attention if layer.has_gradient else 0
    return (1 + again) * (forward + attention) + backward


def _attention_bytes(layer: Layer, arithmetic: Arithmetic, *, length: int) -> float:
    # Fused attention on the CPU does not support dropout, and torch falls back to the eager computation.
    is_eager = arithmetic.is_eager or (arithmetic.is_on_cpu and layer.has_attention_dropout)
    copies = 3 if is_eager else 4
    if layer.has_fused_qkv:
        copies += 2  # values are a view that keeps the whole fused result alive; queries and keys are rotated copies
    kept = arithmetic.compute_bytes * copies * layer.attention_width
    if is_eager:  # softmax is computed in float32, and its result is cast for the product with the values
        cast = 0 if arithmetic.compute_bytes == _FP32 else arithmetic.compute_bytes
        kept += layer.num_heads * length * (_FP32 + cast)
    return kept


def _linear_bytes(linear: Linear, arithmetic: Arithmetic) -> float:
    """Return the bytes per token of the inputs that a linear layer and its adapter keep."""
    own = linear.has_own_input
    kept = float(linear.num_in * arithmetic.compute_bytes * (linear.is_trained and own))
    if linear.rank:
        is_copied = linear.has_dropout or arithmetic.compute_bytes != _FP32
        kept += linear.num_in * (
            arithmetic.adapter_bytes * (is_copied or own) + arithmetic.mask_bytes * linear.has_dropout
        )
        kept += linear.rank * arithmetic.adapter_bytes
    if linear.is_dora:  # the trained magnitude multiplies the results of the weight and of the adapter
        kept += linear.num_out * (arithmetic.compute_bytes + _FP32)
    return kept
