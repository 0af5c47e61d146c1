"""Count what a transformer layer costs a training step: bytes that backward needs, and floating point operations.

The count of Korthikanti et al. (2022, "Reducing activation recomputation in large transformer models", section 4),
taken operation by operation instead of for one architecture, because a frozen linear layer keeps nothing of its input
and an adapter keeps a copy of its own. Fused attention (``sdpa``) keeps queries, keys, values and result; ``eager``
keeps the weights of every pair of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_FP32 = 4


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Bytes of a value: of the pretrained weights, and in what is computed; ``is_mixed``: under autocast."""

    weight_bytes: int
    compute_bytes: int
    is_mixed: bool
    is_eager: bool
    is_on_cpu: bool

    @property
    def mask_bytes(self) -> int:
        """Bytes of a value of a dropout's mask: on the CPU it is made of factors."""
        return _FP32 if self.is_on_cpu else 1

    @property
    def hidden_bytes(self) -> int:
        """Bytes of a value of the residual stream, which starts in the dtype of the weights."""
        return max(self.weight_bytes, self.compute_bytes)

    @property
    def adapter_bytes(self) -> int:
        """Bytes of a value in an adapter, whose weights are float32."""
        return self.compute_bytes if self.is_mixed else _FP32

    def norm_bytes(self, norm: Norm) -> int:
        """Return the bytes of a value that a norm keeps: those that compute in float32 keep a copy."""
        return _FP32 if norm.is_rms or self.is_mixed else self.compute_bytes


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A linear layer and the adapter beside it (``rank`` 0: none).

    ``has_own_input``: no operation before it keeps its input or reads it too.
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
    """A norm over ``width`` values of a token."""

    width: int
    is_rms: bool
    is_trained: bool


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A transformer layer; ``has_gradient`` says whether backward goes through it.

    ``attention_width`` is that of the queries of all heads, ``activation_width`` what the activation function keeps of
    a token; ``has_dropout``: after attention and after the MLP.
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
    """Return the layer as the pretrained model has it."""
    bare = tuple(replace(linear, rank=0, has_dropout=False, is_dora=False) for linear in layer.linears)
    return replace(layer, linears=bare)


def kept_bytes(layer: Layer, arithmetic: Arithmetic, *, length: int) -> float:
    """Return the bytes per token that backward needs of a layer it goes through; attention is over ``length``."""
    kept: float = sum(norm.width * arithmetic.norm_bytes(norm) for norm in layer.norms)
    kept += sum(norm.width * arithmetic.compute_bytes for norm in layer.norms if norm.is_trained and norm.is_rms)
    kept += arithmetic.compute_bytes * layer.activation_width
    kept += 2 * layer.hidden * arithmetic.mask_bytes * layer.has_dropout
    kept += _attention_bytes(layer, arithmetic, length=length)
    return kept + sum(_linear_bytes(linear, arithmetic) for linear in layer.linears)


def cast_bytes(layer: Layer, arithmetic: Arithmetic) -> int:
    """Return the bytes of the weights' copies that autocast makes where their dtype is another; backward keeps them."""
    if not arithmetic.is_mixed or arithmetic.weight_bytes == arithmetic.compute_bytes:
        return 0
    return arithmetic.compute_bytes * sum(linear.num_in * linear.num_out for linear in layer.linears)


def step_flops(layer: Layer, *, length: int, is_checkpointed: bool) -> float:
    """Return the operations per token of forward and backward (and of the second forward of a checkpointed layer).

    A multiplication and an addition are two. Backward costs a forward for the gradient of the input, and another for
    that of a weight that learns; attention has two inputs.
    """
    attention = 4 * length * layer.attention_width
    adapters = sum(2 * linear.rank * (linear.num_in + linear.num_out) for linear in layer.linears)
    forward = sum(2 * linear.num_in * linear.num_out for linear in layer.linears) + adapters
    learned = sum(2 * linear.num_in * linear.num_out for linear in layer.linears if linear.is_trained) + adapters
    again = int(is_checkpointed and layer.has_gradient)
    backward = forward + learned + 2 * attention if layer.has_gradient else 0
    return (1 + again) * (forward + attention) + backward


def _attention_bytes(layer: Layer, arithmetic: Arithmetic, *, length: int) -> float:
    # On the CPU fused attention has no dropout, and torch falls back.
    is_eager = arithmetic.is_eager or (arithmetic.is_on_cpu and layer.has_attention_dropout)
    copies = 3 if is_eager else 4
    if layer.has_fused_qkv:
        copies += 2  # values are a view of all three, which therefore stay; queries and keys are rotated copies
    kept = arithmetic.compute_bytes * copies * layer.attention_width
    if is_eager:  # softmax is in float32, and its result is cast for the product with the values
        cast = 0 if arithmetic.compute_bytes == _FP32 else arithmetic.compute_bytes
        kept += layer.num_heads * length * (_FP32 + cast)
    return kept


def _linear_bytes(linear: Linear, arithmetic: Arithmetic) -> float:
    """Return the bytes per token of the inputs that weight and adapter keep."""
    own = linear.has_own_input
    kept = float(linear.num_in * arithmetic.compute_bytes * (linear.is_trained and own))
    if linear.rank:
        is_copied = linear.has_dropout or arithmetic.compute_bytes != _FP32
        kept += linear.num_in * (
            arithmetic.adapter_bytes * (is_copied or own) + arithmetic.mask_bytes * linear.has_dropout
        )
        kept += linear.rank * arithmetic.adapter_bytes
    if linear.is_dora:  # the learned magnitude multiplies the result of the weight and that of the adapter
        kept += linear.num_out * (arithmetic.compute_bytes + _FP32)
    return kept
